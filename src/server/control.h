/*
 * control.h: the daemon's slow side, on a thread and a connection of its own: finds out what there
 * is to serve, stands for election as maintenance leader and runs maintain(). It may wait for the
 * database; the loops never wait for it.
 */
#ifndef TL_SERVER_CONTROL_H
#define TL_SERVER_CONTROL_H

#include "journal.h"
#include "resends.h"
#include "serve.h"
#include "subscriptions.h"

struct tl__control;

struct tl__control_settings {
    const struct tl__serve_options *options; /* borrowed until stop */
    /* On control's thread, with a list that is borrowed; after every look, changed or not. */
    void (*on_list)(const struct tl__subscription_list *list, void *userdata);
    /* Events to send once more, to be taken over. */
    void (*on_resends)(struct tl__resends *resends, void *userdata);
    void *userdata;
    struct tl__journal *journal; /* borrowed until stop */
};

/* Start the thread; NULL: it cannot be started. */
struct tl__control *tl__control_start(const struct tl__control_settings *settings);
/* Look now. Any thread. */
void tl__control_wake(struct tl__control *control);
/* Something came into the journal. Any thread. */
void tl__control_note(struct tl__control *control);
/* End the thread, free control. NULL is fine. False: the database holds the thread, which goes on
 * using control and its settings until the process ends. */
bool tl__control_stop(struct tl__control *control);

#endif
