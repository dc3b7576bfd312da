/*
 * store.h: the part of libtrunkline's interface that makes the log an event store: append, streams,
 * reading them, redaction. trunkline.h includes it and its conventions hold; what is in neither is not
 * API.
 *
 * A stream is a sequence of events of one topic with versions 1, 2, 3... and no hole. Its name is
 * "<category>-<id>", "order-42"; the category ends at the first '-'. Only topics made with streams
 * hold any; "store" is one and the default of every call here.
 */
#ifndef TRUNKLINE_STORE_H
#define TRUNKLINE_STORE_H

#include <trunkline/trunkline.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------- append -- */

#define TL_MAX_APPEND 10000 /* events in one append */

/* What version a stream must have for an append to happen. Any number above 0 is exactly that one. */
#define TL_EXPECT_ANY INT64_MIN /* whatever it has */
#define TL_EXPECT_EXISTS (-1)   /* at least one event */
#define TL_EXPECT_NO_STREAM 0   /* none yet, or none since it was deleted */

typedef struct tl_append_options {
    size_t size;
    const char *topic;     /* NULL: "store" */
    const char *tenant_id; /* NULL: system. A stream belongs to the tenant of its first append; as
                              another one it can neither be read nor appended to */
} tl_append_options;
#define TL_APPEND_OPTIONS(...)                                                                     \
    (&(tl_append_options){.size = sizeof(tl_append_options), __VA_ARGS__})

/* What an append gives for each event. Caller's memory, holds no pointers: this struct is fixed for
 * ever. */
typedef struct tl_appended {
    int64_t position; /* in the topic */
    int64_t version;  /* in the stream, from 1 */
    char id[37];
    bool deduplicated; /* true: the same append was made before; this is its result */
} tl_appended;

/**
 * Append events to a stream, all or none, in a transaction of its own; durable when it returns TL_OK.
 *
 * @param stream    name, 1..255 bytes, no control characters; made if absent.
 * @param expected_version  version the stream must have: TL_EXPECT_ANY, TL_EXPECT_EXISTS,
 *                  TL_EXPECT_NO_STREAM or the number last seen. An argument and no option, so that
 *                  nobody says it by forgetting.
 * @param events,n  borrowed until return; n in 1..TL_MAX_APPEND. tenant_id of an event must be NULL or
 *                  that of opts; run_at_us and delay_us must be 0: an appended event is there at once. key NULL:
 *                  the stream. With an id ttl_us must be 0, since its repetition would expire at another time.
 * @param opts      NULL for defaults.
 * @param ret       array of n, or NULL.
 * @return TL_OK;
 *         TL_E_CONFLICT: the stream has another version (or is closed for ever) and nothing is stored;
 *         tl_error_expected_version() and tl_error_actual_version() tell: load it again and decide. Or an id
 *         was used before for something else (sqlstate TL003): take another.
 *         TL_E_INVALID: tl_error_index() names the event to blame when there is one;
 *         TL_E_LIMIT: an event larger than the topic's max_event_bytes, or all too large for one message;
 *         TL_E_DENIED: no right to append, or another tenant's stream;
 *         TL_E_NOTFOUND: no such topic; TL_E_UNSUPPORTED: a topic without streams;
 *         TL_E_CONNECTION: when tl_error_outcome_unknown(), append the same again: with ids in the events
 *         it is stored once, whatever happened, and without them only an exact version keeps it from being
 *         stored twice.
 * Blocks: up to the client's timeout_us. A dead connection is replaced before the call is sent, never
 * after. Example: examples/order.c
 */
TL_API TL_MUSTCHECK tl_status tl_append(tl_client *c, const char *stream, int64_t expected_version,
                                        const tl_new_event *events, size_t n,
                                        const tl_append_options *opts, tl_appended *ret);
/**
 * Append inside the caller's own libpq transaction (or autocommit when none is open). Never begins,
 * commits or rolls back; the stream stays locked until the caller does. A conflict aborts the
 * transaction as any error does: use a savepoint to go on.
 * @param schema     NULL: "trunkline".
 * @param ret_error  may be NULL; else set on failure, free with tl_error_free().
 * @return as tl_append; TL_E_INVALID in an aborted transaction.
 */
TL_API TL_MUSTCHECK tl_status tl_append_in(struct pg_conn *conn, const char *schema,
                                           const char *stream, int64_t expected_version,
                                           const tl_new_event *events, size_t n,
                                           const tl_append_options *opts, tl_appended *ret,
                                           tl_error **ret_error);
/** Append in the transaction of a handler (tl_delivery_tx): stored with its other effects, or not. */
TL_API TL_MUSTCHECK tl_status tl_tx_append(tl_tx *tx, const char *stream, int64_t expected_version,
                                           const tl_new_event *events, size_t n,
                                           const tl_append_options *opts, tl_appended *ret);

/* One stream of a write to several. */
typedef struct tl_stream_write {
    size_t size;
    const char *stream;
    int64_t expected_version; /* zero is TL_EXPECT_NO_STREAM: always say it */
    const tl_new_event *events;
    size_t event_count; /* 0: its version is only checked */
} tl_stream_write;

/**
 * Append to several streams, all or none, each with its own expected version. Streams are locked in an
 * order of their own, so two such calls never deadlock; positions follow the order of the input.
 *
 * @param writes,n  1..1000 streams, each of them once; at most TL_MAX_APPEND events in all and at least
 *                  one.
 * @param ret       array with room for all events, in input order; or NULL.
 * @return as tl_append; tl_error_index() is the index of the write to blame.
 */
TL_API TL_MUSTCHECK tl_status tl_append_streams(tl_client *c, const tl_stream_write *writes,
                                                size_t n, const tl_append_options *opts,
                                                tl_appended *ret);

/** Of a conflict (TL_E_CONFLICT, sqlstate TL001): what was expected, in the words of the call;
 * TL_EXPECT_ANY for every other error. */
TL_API int64_t tl_error_expected_version(const tl_error *e);
/** ... and what version the stream has; -1 for every other error. */
TL_API int64_t tl_error_actual_version(const tl_error *e);

/* --------------------------------------------------------------------------------- streams -- */

typedef struct tl_stream_options {
    size_t size;
    const char *topic;     /* NULL: "store" */
    const char *tenant_id; /* NULL: whatever tenant it has; another tenant's stream is as absent */
} tl_stream_options;
#define TL_STREAM_OPTIONS(...)                                                                     \
    (&(tl_stream_options){.size = sizeof(tl_stream_options), __VA_ARGS__})

/** Version of the last event, 0 when there is none. An outage is an error, never 0. */
TL_API TL_MUSTCHECK tl_status tl_stream_version(tl_client *c, const char *stream,
                                                const tl_stream_options *opts, int64_t *ret);
/** Has it events to read? */
TL_API TL_MUSTCHECK tl_status tl_stream_exists(tl_client *c, const char *stream,
                                               const tl_stream_options *opts, bool *ret);

typedef struct tl_streams tl_streams; /* what is known of streams, read together; one free */
TL_API size_t tl_streams_count(const tl_streams *s); /* 0 for NULL; below: i < count */
TL_API const char *tl_streams_name(const tl_streams *s, size_t i);
TL_API int64_t tl_streams_version(const tl_streams *s, size_t i);
TL_API int64_t tl_streams_first_version(const tl_streams *s, size_t i); /* reads begin here */
/** "open", "deleted" (the next append opens it again) or "tombstone" (closed for ever). */
TL_API const char *tl_streams_state(const tl_streams *s, size_t i);
TL_API const char *tl_streams_tenant_id(const tl_streams *s, size_t i); /* NULL: system */
TL_API int64_t tl_streams_max_count(const tl_streams *s, size_t i);     /* 0: no limit */
TL_API uint64_t tl_streams_max_age_us(const tl_streams *s, size_t i);   /* 0: no limit */
TL_API const char *tl_streams_metadata(const tl_streams *s, size_t i);  /* JSON; NULL: none */
TL_API int64_t tl_streams_created_at_us(const tl_streams *s, size_t i);
TL_API int64_t tl_streams_updated_at_us(const tl_streams *s, size_t i);
TL_API tl_streams *tl_streams_free(tl_streams *s);

/** One stream, also a deleted one. TL_E_NOTFOUND: absent. */
TL_API TL_MUSTCHECK tl_status tl_stream_info(tl_client *c, const char *stream,
                                             const tl_stream_options *opts, tl_streams **ret);

typedef struct tl_stream_list_options {
    size_t size;
    const char *topic;     /* NULL: "store" */
    const char *tenant_id; /* NULL: every tenant */
    const char *category;  /* "order" or "order-*"; NULL: all */
    const char *after;     /* a name: those behind it, by bytes; NULL: from the beginning */
    uint32_t limit;        /* 0: 100; at most 10000 */
    bool include_deleted;
} tl_stream_list_options;
#define TL_STREAM_LIST_OPTIONS(...)                                                                \
    (&(tl_stream_list_options){.size = sizeof(tl_stream_list_options), __VA_ARGS__})

/** Streams by name; page on with .after = the last name. TL_NOTHING: none, and *ret is NULL. */
TL_API TL_MUSTCHECK tl_status tl_stream_list(tl_client *c, const tl_stream_list_options *opts,
                                             tl_streams **ret);

typedef struct tl_stream_delete_options {
    size_t size;
    const char *topic;     /* NULL: "store" */
    const char *tenant_id; /* NULL: system */
    bool hard; /* a tombstone: closed for ever, all payloads redacted. It cannot be undone */
    const char *reason; /* for the audit; required with hard */
} tl_stream_delete_options;
#define TL_STREAM_DELETE_OPTIONS(...)                                                              \
    (&(tl_stream_delete_options){.size = sizeof(tl_stream_delete_options), __VA_ARGS__})

/**
 * Delete a stream: reads of it give nothing more, the log of the topic keeps its events. The next append
 * opens it again and goes on counting.
 * @param expected_version  as in tl_append.
 * @return TL_OK; TL_NOTHING: it was deleted before; TL_E_NOTFOUND; TL_E_CONFLICT; TL_E_DENIED.
 */
TL_API TL_MUSTCHECK tl_status tl_stream_delete(tl_client *c, const char *stream,
                                               int64_t expected_version,
                                               const tl_stream_delete_options *opts);

/* -------------------------------------------------------------------------- reading, finding -- */

/** Its payload was removed for good: data is null and metadata has {"redacted": {...}}. */
TL_API bool tl_event_is_redacted(const tl_event *e);
/** metadata.schema_version; 1 when it says nothing. */
TL_API int32_t tl_event_schema_version(const tl_event *e);

typedef struct tl_reader tl_reader;

typedef struct tl_reader_options {
    size_t size;
    const char *topic;     /* NULL: "store" */
    const char *tenant_id; /* NULL: every tenant */
    int64_t after;         /* versions (stream) or positions beyond this one; 0: from the beginning,
                              backward from the end */
    int64_t upto;          /* up to and including this one; 0: to the end */
    bool backward;         /* not for categories */
    uint64_t limit;        /* events in all; 0: no limit */
    uint32_t
        page_events; /* events fetched at a time, 1..10000; 0: 1000. A page also ends at 4 MiB */
    const char
        *pattern; /* of types, see tl_pattern_matches(); tl_reader_open_all only; NULL: all */
    const char *const *types;   /* any of these; tl_reader_open_all only */
    size_t type_count;          /* 0: all */
    const char *correlation_id; /* metadata.correlation_id; tl_reader_open_all only; NULL: all */
    int64_t since_us;           /* stored at this time or later; not for streams; 0: all */
    bool upcast;                /* by the SQL functions registered with upcaster_add() */
} tl_reader_options;
#define TL_READER_OPTIONS(...)                                                                     \
    (&(tl_reader_options){.size = sizeof(tl_reader_options), __VA_ARGS__})

/**
 * Read a stream, a category or a whole topic, event by event. One page is in memory at a time, whatever
 * the length: at most 4 MiB and one event. Between two calls the client is free for others.
 *
 * Streams are read by version. Categories and topics are read by position up to the safe horizon, so
 * reading on misses nothing however late a transaction commits.
 *
 * @param opts  copied but for the texts in it, which are copied as well; NULL for defaults.
 * @param ret   close it with tl_reader_close, before the client.
 * @return TL_OK; TL_E_INVALID; TL_E_NOMEM. Nothing is asked yet.
 */
TL_API TL_MUSTCHECK tl_status tl_reader_open_stream(tl_client *c, const char *stream,
                                                    const tl_reader_options *opts, tl_reader **ret);
/** @param category  "order" or "order-*". */
TL_API TL_MUSTCHECK tl_status tl_reader_open_category(tl_client *c, const char *category,
                                                      const tl_reader_options *opts,
                                                      tl_reader **ret);
TL_API TL_MUSTCHECK tl_status tl_reader_open_all(tl_client *c, const tl_reader_options *opts,
                                                 tl_reader **ret);
/**
 * The next event.
 *
 * @param ret  borrowed until the next call on the reader.
 * @return TL_OK; TL_NOTHING at the end, for an absent stream too: called again it looks for what has
 *         come since. An outage is an error: tl_client_error() has it. It was tried again meanwhile, for
 *         up to the client's timeout_us; call again to go on with the event after the last one.
 * Blocks: once for each page.
 */
TL_API TL_MUSTCHECK tl_status tl_reader_next(tl_reader *r, const tl_event **ret);
/** Version (stream) or position of the last event given, to go on with .after; that of the options
 * before the first. */
TL_API int64_t tl_reader_after(const tl_reader *r);
/** Takes NULL, returns NULL. */
TL_API tl_reader *tl_reader_close(tl_reader *r);

/**
 * An event by its id.
 * @param ret_topic  room for the topic's name, or NULL.
 * @param ret        one event; free with tl_batch_free.
 * @return TL_OK; TL_E_NOTFOUND; TL_E_INVALID: id is no uuid.
 */
TL_API TL_MUSTCHECK tl_status tl_find(tl_client *c, const char *id,
                                      char ret_topic[TL_MAX_TOPIC_BYTES + 1], tl_batch **ret);

typedef struct tl_redact_options {
    size_t size;
    const char *topic;  /* NULL: wherever it is */
    bool keep_metadata; /* false: of metadata only correlation_id and causation_id stay */
} tl_redact_options;
#define TL_REDACT_OPTIONS(...)                                                                     \
    (&(tl_redact_options){.size = sizeof(tl_redact_options), __VA_ARGS__})

/**
 * Remove the payload of an event for good, here and wherever it was copied to in this database. Position
 * and version stay; every read shows the marker. Audited.
 * @param reason  required, 1..1000 bytes.
 * @return TL_OK; TL_NOTHING: it was redacted before; TL_E_NOTFOUND; TL_E_DENIED; TL_E_INVALID.
 */
TL_API TL_MUSTCHECK tl_status tl_redact(tl_client *c, const char *event_id, const char *reason,
                                        const tl_redact_options *opts);

#ifdef __cplusplus
}
#endif
#endif /* TRUNKLINE_STORE_H */
