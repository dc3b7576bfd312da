/*
 * webhook_message.h: the actions of `trunkline webhook` that need no database: sign, verify, listen.
 * For cmd_webhook.c.
 */
#ifndef TL_CLI_WEBHOOK_MESSAGE_H
#define TL_CLI_WEBHOOK_MESSAGE_H

#include "command.h"

int tl__webhook_run_sign(const struct tl__args *args);
int tl__webhook_run_verify(const struct tl__args *args);
int tl__webhook_run_listen(const struct tl__args *args);

#endif
