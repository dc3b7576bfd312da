/*
 * store.h: the part of libtrunkline's interface that makes the log an event store: append, streams,
 * reading them, redaction, snapshots, upcasters, aggregates. trunkline.h includes it and its conventions
 * hold; what is in neither is not API.
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

typedef struct tl_stream_set_options {
    size_t size;
    const char *topic;     /* NULL: "store" */
    const char *tenant_id; /* NULL: system */
    int64_t max_count;     /* reads of the stream give the last so many events; 0: all */
    uint64_t max_age_us;   /* and those younger than this; 0: all */
    const char *metadata;  /* JSON object of yours; NULL: none */
} tl_stream_set_options;
#define TL_STREAM_SET_OPTIONS(...)                                                                 \
    (&(tl_stream_set_options){.size = sizeof(tl_stream_set_options), __VA_ARGS__})

/**
 * Set what is kept with a stream, all of it: what opts do not name is cleared. An absent stream is made, at
 * version 0. The version does not change; the log keeps what reads do not give any more.
 * @param expected_version  as in tl_append.
 * @return TL_OK; TL_E_CONFLICT; TL_E_INVALID; TL_E_DENIED.
 */
TL_API TL_MUSTCHECK tl_status tl_stream_set(tl_client *c, const char *stream,
                                            int64_t expected_version,
                                            const tl_stream_set_options *opts);

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
 * @return TL_OK; TL_NOTHING: absent, or deleted before; TL_E_CONFLICT; TL_E_INVALID; TL_E_DENIED.
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
typedef struct tl_upcasters tl_upcasters; /* see below */

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
    tl_upcasters *upcasters;    /* and by these, borrowed until tl_reader_close; NULL: none */
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
/** A named stream of links, see tl_link(): by position in it. Not backward; tenant_id, after, upto, limit and
 * upcasters are its options. Links to events that retention has dropped are passed over. */
TL_API TL_MUSTCHECK tl_status tl_reader_open_links(tl_client *c, const char *name,
                                                   const tl_reader_options *opts, tl_reader **ret);
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
/** Version (stream), position, or position in a named stream of the last event looked at, to go on
 * with .after; that of the options before the first. */
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

/**
 * Put an event into a named stream, as a link and no copy.
 * @param name       1..255 bytes, no control characters.
 * @param tenant_id  NULL: whatever tenant the event has; another tenant's event is as absent.
 * @param ret        may be NULL; position in the named stream, from 1. An event that is in it already keeps
 *                   its own, so the call can be repeated.
 * @return TL_OK; TL_E_NOTFOUND: no such event; TL_E_INVALID; TL_E_DENIED.
 */
TL_API TL_MUSTCHECK tl_status tl_link(tl_client *c, const char *name, const char *event_id,
                                      const char *tenant_id, int64_t *ret);

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

/* ------------------------------------------------------------------------------- snapshots -- */

typedef struct tl_snapshot_options {
    size_t size;
    const char *topic;       /* NULL: "store" */
    const char *tenant_id;   /* NULL: whatever tenant the stream has */
    uint32_t schema_version; /* of the state, each has a snapshot of its own; 0: 1 */
} tl_snapshot_options;
#define TL_SNAPSHOT_OPTIONS(...)                                                                   \
    (&(tl_snapshot_options){.size = sizeof(tl_snapshot_options), __VA_ARGS__})

/**
 * Keep the state that a stream's events give up to a version; it takes the place of an older one.
 * @param state  JSON text; state_len 0: strlen(state).
 * @return TL_OK; TL_NOTHING: the one that is kept is of a later version; TL_E_INVALID: ahead of the
 *         stream, or no JSON; TL_E_NOTFOUND; TL_E_DENIED.
 */
TL_API TL_MUSTCHECK tl_status tl_snapshot_save(tl_client *c, const char *stream, int64_t version,
                                               const char *state, size_t state_len,
                                               const tl_snapshot_options *opts);

typedef struct tl_snapshot tl_snapshot;
TL_API int64_t tl_snapshot_version(const tl_snapshot *s); /* of the stream */
TL_API const char *tl_snapshot_state(const tl_snapshot *s,
                                     size_t *ret_len); /* JSON; ret_len NULL */
TL_API int64_t tl_snapshot_created_at_us(const tl_snapshot *s);
TL_API tl_snapshot *tl_snapshot_free(tl_snapshot *s);

/** TL_E_NOTFOUND: there is none of this schema version. */
TL_API TL_MUSTCHECK tl_status tl_snapshot_get(tl_client *c, const char *stream,
                                              const tl_snapshot_options *opts, tl_snapshot **ret);
/**
 * Delete snapshots, of whatever age.
 * @param stream_or_category  "order-42" is one stream, "order-*" all of a category.
 * @param below_schema_version  only those of a lower one; 0: all.
 * @param ret        may be NULL; how many.
 */
TL_API TL_MUSTCHECK tl_status tl_snapshot_delete(tl_client *c, const char *stream_or_category,
                                                 uint32_t below_schema_version, const char *topic,
                                                 int64_t *ret);

/* ------------------------------------------------------------------------------- upcasters -- */

/*
 * Events outlive the programs that wrote them. The schema version of an event is
 * metadata.schema_version, 1 without; an upcaster turns the data of one version of a type into that of
 * the next. Those made in SQL (upcaster_add) are applied by the server to who asks for it; these run
 * here, on whatever was read, and change nothing that is stored.
 */

/* What becomes of an event whose type is not known here, or whose schema version is later than the
 * last one known. */
typedef enum tl_unknown {
    TL_UNKNOWN_PASS = 0, /* given as it is */
    TL_UNKNOWN_SKIP = 1, /* left out */
    TL_UNKNOWN_FAIL = 2  /* TL_E_UNSUPPORTED */
} tl_unknown;

/**
 * @param data      of e, by its upcasters so far; JSON text of len bytes that ends in NUL.
 * @param ret_data  JSON text of the next version, from malloc(); the library frees it. Left alone: no
 *                  change.
 * @return TL_OK; TL_NOTHING: leave the event out; < 0: it cannot be read, and who reads gets this status.
 */
typedef tl_status (*tl_upcast_fn)(const tl_event *e, const char *data, size_t len, char **ret_data,
                                  void *userdata);

TL_API TL_MUSTCHECK tl_status tl_upcasters_new(tl_unknown policy, tl_upcasters **ret);
TL_API tl_upcasters *tl_upcasters_free(tl_upcasters *u);
/** Data of a type from one schema version (at least 1) to the next. The latest version known is then at
 * least from + 1. TL_E_INVALID: there is one for it. */
TL_API TL_MUSTCHECK tl_status tl_upcasters_add(tl_upcasters *u, const char *type, uint32_t from,
                                               tl_upcast_fn fn, void *userdata);
/** A type that needs none up to this schema version (at least 1) is known, too. */
TL_API TL_MUSTCHECK tl_status tl_upcasters_know(tl_upcasters *u, const char *type,
                                                uint32_t schema_version);
/**
 * An event in its latest version; redacted ones are given as they are.
 * @param ret  e itself when nothing changes, else borrowed until the next call with u; borrows from e.
 * @return TL_OK; TL_NOTHING: leave it out (TL_UNKNOWN_SKIP); TL_E_UNSUPPORTED: unknown
 *         (TL_UNKNOWN_FAIL), or the upcaster of one version is missing between two others; what an
 *         upcaster returned. tl_upcasters_error() has the detail.
 */
TL_API TL_MUSTCHECK tl_status tl_upcast(tl_upcasters *u, const tl_event *e, const tl_event **ret);
TL_API const tl_error *tl_upcasters_error(const tl_upcasters *u);

/* --------------------------------------------------------------------- aggregates, repository -- */

/*
 * An aggregate is the state that the events of one stream give: order 42 is the stream "order-42". A
 * program describes its type by a few functions; a repository loads and saves.
 *
 *     tl_repository_load(repo, "42", &order);
 *     ship(order)                          reads tl_aggregate_state(), decides, and either
 *                                          tl_aggregate_raise()s events or tl_aggregate_reject()s
 *     tl_repository_save(repo, order);     stores the raised events, if nobody else was faster
 *
 * tl_repository_update() is these three with the repetition after a conflict.
 */
typedef struct tl_aggregate tl_aggregate;
typedef struct tl_repository tl_repository;

typedef struct tl_aggregate_type {
    size_t size;
    const char *name; /* the category: 1..200 bytes without '-' */
    /* The state before the first event. NULL: no memory. */
    void *(*create)(void *userdata);
    /* Fold an event into the state. The event is borrowed until it returns; one that was raised has no
     * position and no time yet. TL_OK; TL_NOTHING: this type of event is not known, see `unknown`; < 0:
     * load or raise fails with this status. */
    tl_status (*apply)(void *state, const tl_event *e, void *userdata);
    void (*free)(void *state, void *userdata); /* NULL: free(3) */
    /* Both or none. JSON text of a state, from malloc(), freed by the library; and that text into a
     * state fresh from create, where any failure means: of no use, replay instead. */
    tl_status (*snapshot)(const void *state, char **ret_json, void *userdata);
    tl_status (*restore)(void *state, const char *json, size_t len, void *userdata);
    uint32_t schema_version; /* of the snapshots; raise it when the state changes its form. 0: 1 */
    tl_unknown unknown;      /* what apply does not know. TL_UNKNOWN_PASS is as TL_UNKNOWN_SKIP */
    void *userdata;
} tl_aggregate_type;
#define TL_AGGREGATE_TYPE(...)                                                                     \
    (&(tl_aggregate_type){.size = sizeof(tl_aggregate_type), __VA_ARGS__})

typedef struct tl_repository_options {
    size_t size;
    const char *topic;       /* NULL: "store" */
    const char *tenant_id;   /* NULL: whatever tenant a stream has; new ones: system */
    bool upcast;             /* what is loaded, by the SQL functions of upcaster_add() */
    tl_upcasters *upcasters; /* and by these, borrowed until tl_repository_free; NULL: none */
    uint32_t snapshot_every; /* a snapshot when so many events are behind the last; 0: on demand */
    bool snapshot_later;     /* not within tl_repository_save but by tl_repository_process */
} tl_repository_options;
#define TL_REPOSITORY_OPTIONS(...)                                                                 \
    (&(tl_repository_options){.size = sizeof(tl_repository_options), __VA_ARGS__})

/** @param type  copied; its functions and userdata must outlive the repository. Errors of everything
 * below are in tl_client_error(c). */
TL_API TL_MUSTCHECK tl_status tl_repository_new(tl_client *c, const tl_aggregate_type *type,
                                                const tl_repository_options *opts,
                                                tl_repository **ret);
/** After its aggregates and before its client. Snapshots that are due later are dropped: they are
 * worth time only. */
TL_API tl_repository *tl_repository_free(tl_repository *r);

/**
 * Load an aggregate: the snapshot, when there is a good one, and the events behind it, in one round trip
 * (of long streams a page at a time). A snapshot that is missing, of another schema version, refused by
 * restore or not followed by the stream's events degrades to a replay of all events, and is counted. Of a
 * stream that is trimmed (tl_stream_set) the state is what the events that are left give.
 * @param id  the stream is "<type>-<id>".
 * @param ret free with tl_aggregate_free.
 * @return TL_OK; TL_E_NOTFOUND: no events, or another tenant's; what apply or an upcaster returned;
 *         TL_E_SERVER: versions out of order; errors as usual, an outage never reads as "not found".
 */
TL_API TL_MUSTCHECK tl_status tl_repository_load(tl_repository *r, const char *id,
                                                 tl_aggregate **ret);
/** A new one, at version 0. Asks nobody: that it does not exist is seen by the first save. */
TL_API TL_MUSTCHECK tl_status tl_repository_create(tl_repository *r, const char *id,
                                                   tl_aggregate **ret);
/** Load it, or a new one when there are no events. */
TL_API TL_MUSTCHECK tl_status tl_repository_load_or_create(tl_repository *r, const char *id,
                                                           tl_aggregate **ret);
TL_API TL_MUSTCHECK tl_status tl_repository_exists(tl_repository *r, const char *id, bool *ret);
/** Version in the store; 0: no events. */
TL_API TL_MUSTCHECK tl_status tl_repository_version(tl_repository *r, const char *id, int64_t *ret);
/**
 * Store the raised events, all or none, if the stream still has the version that was loaded. Then none
 * is pending and the version has moved on. A snapshot that falls due and fails is counted, not reported.
 * @return TL_OK; TL_NOTHING: nothing is pending; TL_E_CONFLICT: somebody was faster; the events stay
 *         pending, see tl_repository_reload(); TL_E_INVALID: an aggregate of another repository, or an
 *         event is refused; TL_E_CONNECTION with tl_error_outcome_unknown(): save again, the events have
 *         ids and are stored once; errors of tl_append.
 */
TL_API TL_MUSTCHECK tl_status tl_repository_save(tl_repository *r, tl_aggregate *a);
/** After a conflict: load the state of now and apply the pending events to it, so that they can be
 * saved if they still make sense; what decided on them is not asked again, unlike in
 * tl_repository_update(). On failure (apply may refuse) the aggregate is as before. */
TL_API TL_MUSTCHECK tl_status tl_repository_reload(tl_repository *r, tl_aggregate *a);

/* Decide: raise events or reject. Called anew on the state of now after a conflict, so it keeps its
 * effects to itself. TL_OK; anything else ends the update without a save. */
typedef tl_status (*tl_command_fn)(tl_aggregate *a, void *userdata);

typedef struct tl_update_options {
    size_t size;
    uint32_t attempts; /* saves in all, 1..100; 0: 5 */
    bool create;       /* a new one when there are no events; else TL_E_NOTFOUND */
} tl_update_options;
#define TL_UPDATE_OPTIONS(...)                                                                     \
    (&(tl_update_options){.size = sizeof(tl_update_options), __VA_ARGS__})

/**
 * Load, decide, save; after a conflict from the beginning; while it is not known what became of a save (a
 * lost connection) that alone, with the same event ids. When it ends so, the next update decides on
 * what is stored.
 * @param ret_version  may be NULL; version of the aggregate afterwards.
 * @return TL_OK; TL_NOTHING: fn raised nothing, or returned it; what fn returned; errors of load and save.
 *         TL_E_CONFLICT: attempts are used up.
 */
TL_API TL_MUSTCHECK tl_status tl_repository_update(tl_repository *r, const char *id,
                                                   tl_command_fn fn, void *userdata,
                                                   const tl_update_options *opts,
                                                   int64_t *ret_version);

/** Save a snapshot now. TL_NOTHING: a later one is kept; TL_E_UNSUPPORTED: the type has none;
 * TL_E_INVALID: events are pending, or another repository's; what `snapshot` returned. */
TL_API TL_MUSTCHECK tl_status tl_repository_snapshot(tl_repository *r, tl_aggregate *a);
/** Save one of the snapshots that fell due (snapshot_later): when there is time, until it returns
 * TL_NOTHING. The latest of each of up to 64 streams wait; the oldest makes room for another. */
TL_API TL_MUSTCHECK tl_status tl_repository_process(tl_repository *r);

/* Counters since tl_repository_new. */
typedef struct tl_repository_stats {
    uint64_t loads, saves, conflicts;
    uint64_t events_applied;  /* by loads */
    uint64_t snapshot_hits;   /* loads that began with one */
    uint64_t snapshot_misses; /* none there, or of another schema version */
    uint64_t
        snapshot_refused; /* there, but of no use: undecodable, or not followed by the stream */
    uint64_t snapshots_saved;
    uint64_t snapshots_failed;  /* of those that fell due */
    uint64_t snapshots_dropped; /* of those that were to be saved later */
} tl_repository_stats;
TL_API void tl_repository_get_stats(const tl_repository *r, tl_repository_stats *ret);

TL_API const char *tl_aggregate_id(const tl_aggregate *a);
TL_API const char *tl_aggregate_stream(const tl_aggregate *a);
TL_API int64_t tl_aggregate_version(const tl_aggregate *a); /* stored; 0: nothing yet */
TL_API void *tl_aggregate_state(const tl_aggregate *a);     /* with the pending events applied */
TL_API size_t tl_aggregate_pending(const tl_aggregate *a);  /* raised, not saved */
/**
 * Apply an event to the state and remember it for the next save. Everything is copied. It gets an id
 * when it has none, so that a save can be repeated.
 * @return TL_OK; TL_E_INVALID; TL_E_LIMIT: TL_MAX_APPEND are pending; what apply returned, TL_NOTHING of
 *         it being TL_E_INVALID. On failure nothing is pending more than before; apply must not have
 *         changed the state.
 */
TL_API TL_MUSTCHECK tl_status tl_aggregate_raise(tl_aggregate *a, const tl_new_event *event);
/** Refuse a command in the domain's words, which become the message of tl_client_error(). Returns
 * TL_E_REJECTED. */
TL_API tl_status tl_aggregate_reject(tl_aggregate *a, const char *why);
/** Forgets what is pending. Takes NULL, returns NULL. */
TL_API tl_aggregate *tl_aggregate_free(tl_aggregate *a);

#ifdef __cplusplus
}
#endif
#endif /* TRUNKLINE_STORE_H */
