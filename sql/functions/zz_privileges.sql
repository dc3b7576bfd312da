-- PUBLIC gets nothing; see grant_publish and grant_consume.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA @extschema@ FROM PUBLIC;
