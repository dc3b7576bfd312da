/*
 * resends.h: events that a person asked to send once more, on their way from control to a lane.
 */
#ifndef TL_SERVER_RESENDS_H
#define TL_SERVER_RESENDS_H

#include <libpq-fe.h>
#include <stdint.h>

/* Columns of take_resends(). */
enum {
    TL__RESEND_ID,
    TL__RESEND_SUBSCRIPTION,
    TL__RESEND_BODY,
    TL__RESEND_EVENT_ID,
    TL__RESEND_TYPE,
    TL__RESEND_SOURCE,
    TL__RESEND_STREAM,
    TL__RESEND_VERSION,
    TL__RESEND_KEY,
    TL__RESEND_TENANT,
    TL__RESEND_DATA,
    TL__RESEND_CREATED_US,
    TL__RESEND_EXPIRES_US,
    TL__RESEND_POSITION,
    TL__RESEND_COLUMNS,
};

/* Rows, shared by the requests made of them. */
struct tl__resends {
    struct tl__resends *next; /* posted later */
    PGresult *rows;
    uint32_t refs;
};

/* Takes rows over; NULL: no memory, and they are freed. */
struct tl__resends *tl__resends_new(PGresult *rows);
/* One reference less. */
struct tl__resends *tl__resends_unref(struct tl__resends *r);
/* NULL for NULL. */
const char *tl__resends_text(const struct tl__resends *r, int row, int column);
int64_t tl__resends_number(const struct tl__resends *r, int row, int column);

#endif
