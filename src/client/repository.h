/*
 * repository.h: aggregates and their repository, for aggregate.c and repository*.c only.
 */
#ifndef TL_CLIENT_REPOSITORY_H
#define TL_CLIENT_REPOSITORY_H

#include "append.h"

#define TL__MAX_DUE 64 /* snapshots that wait to be saved */

struct tl__due {
    char *stream;
    char *json;
    int64_t version;
};

struct tl_repository {
    tl_client *c;
    tl_aggregate_type type; /* .name is ours */
    char *name;
    char *tenant_id; /* NULL: none */
    char topic[TL_MAX_TOPIC_BYTES + 1];
    tl_upcasters *upcasters; /* the caller's */
    bool upcast;
    uint32_t snapshot_every;
    bool snapshot_later;
    struct tl__due due[TL__MAX_DUE]; /* the oldest first */
    size_t due_count;
    tl_repository_stats stats;
};

struct tl_aggregate {
    struct tl_repository *repository;
    char *stream;
    const char *id; /* in stream */
    void *state;
    int64_t version;          /* of the store */
    int64_t snapshot_version; /* of the last snapshot that is known of; 0: none */
    tl_new_event *pending;
    char **blocks; /* the memory of each pending event */
    size_t pending_count;
    size_t pending_cap;
};

/* aggregate.c */

/* A new one with a fresh state. */
tl_status tl__aggregate_new(struct tl_repository *r, const char *id, struct tl_aggregate **ret);
/* Put a fresh state in place of the one that is there. */
tl_status tl__aggregate_restart(struct tl_aggregate *a);
/* Apply an event to the state; the unknown ones by the policy of the type. Not the version. */
tl_status tl__aggregate_apply(struct tl_aggregate *a, const struct tl_event *e);
/* Apply the pending events of one to the state of another. */
tl_status tl__aggregate_apply_pending(struct tl_aggregate *to, const struct tl_aggregate *from);
void tl__aggregate_forget_pending(struct tl_aggregate *a);

/* repository_load.c: fill a new aggregate; TL_NOTHING: no events. */
tl_status tl__aggregate_load(struct tl_aggregate *a);

/* repository_snapshot.c: take a snapshot after a save, when one is due. Leaves c->error alone. */
void tl__snapshot_if_due(struct tl_aggregate *a);
void tl__due_done(struct tl_repository *r);

#endif
