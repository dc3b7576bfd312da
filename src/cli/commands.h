/*
 * commands.h: one declaration for each cmd_<name>.c. For commands.c only.
 */
#ifndef TL_CLI_COMMANDS_H
#define TL_CLI_COMMANDS_H

#include "command.h"

extern const struct tl__command tl__cmd_streams, tl__cmd_redact, tl__cmd_snapshots;
extern const struct tl__command tl__cmd_dead, tl__cmd_replay, tl__cmd_schedule, tl__cmd_scheduled;
extern const struct tl__command tl__cmd_demo, tl__cmd_serve, tl__cmd_publish, tl__cmd_append,
    tl__cmd_read, tl__cmd_tail, tl__cmd_subscribe, tl__cmd_unsubscribe, tl__cmd_subscriptions,
    tl__cmd_topics, tl__cmd_claim, tl__cmd_ack, tl__cmd_migrate, tl__cmd_doctor, tl__cmd_db,
    tl__cmd_bench, tl__cmd_completion, tl__cmd_version, tl__cmd_webhook;

#endif
