/*
 * commands.c: the list of commands, in the order of --help. To add one: write cmd_<name>.c, declare
 * it in commands.h, put it here.
 */
#include "commands.h"

const struct tl__command *const tl__commands[] = {
    &tl__cmd_demo,       &tl__cmd_serve,       &tl__cmd_publish,
    &tl__cmd_append,     &tl__cmd_read,        &tl__cmd_tail,
    &tl__cmd_streams,    &tl__cmd_redact,      &tl__cmd_snapshots,
    &tl__cmd_subscribe,  &tl__cmd_unsubscribe, &tl__cmd_subscriptions,
    &tl__cmd_dead,       &tl__cmd_replay,      &tl__cmd_webhook,
    &tl__cmd_schedule,   &tl__cmd_scheduled,   &tl__cmd_topics,
    &tl__cmd_claim,      &tl__cmd_ack,         &tl__cmd_migrate,
    &tl__cmd_doctor,     &tl__cmd_bench,       &tl__cmd_db,
    &tl__cmd_completion, &tl__cmd_version,     NULL,
};
