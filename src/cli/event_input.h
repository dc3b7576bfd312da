/*
 * event_input.h: events as people give them to publish and append: a document on stdin, metadata as
 * options, lines of NDJSON. For src/cli only.
 */
#ifndef TL_CLI_EVENT_INPUT_H
#define TL_CLI_EVENT_INPUT_H

#include <stdio.h>

#include <trunkline/trunkline.h>

#include "buf.h"
#include "command.h"

enum { TL__MAX_INPUT_BYTES = 256 << 20 };

/* Memory that events point to; starts as {0}. */
struct tl__texts {
    char **items;
    size_t count, room;
};
/* Keep `text` (from malloc) until tl__texts_clear. Returns it; NULL: no memory, or it was NULL. */
char *tl__texts_keep(struct tl__texts *t, char *text);
void tl__texts_clear(struct tl__texts *t); /* ready for more */
void tl__texts_done(struct tl__texts *t);  /* fits TL_CLEANUP */

/*
 * --metadata, or --meta k=v several times as one JSON object of strings: *ret is NULL without either.
 * 0 or an exit code.
 */
int tl__metadata_option(const struct tl__args *args, struct tl__texts *t, const char **ret);

/* DATA; without it, or when it is "-", the document on stdin, which `into` then holds. 0 or an exit
 * code. */
int tl__data_operand(const char *data, struct tl__buf *into, const char **ret);

/* A line of NDJSON. */
struct tl__event_line {
    tl_new_event event; /* what it has as the caller left it, but for the members given */
    bool is_event;      /* has type or data; only lines with a stream may have neither */
    const char *stream; /* NULL: not given */
    const char *expect; /* the value of "expect" as it stands there; NULL: not given */
    size_t expect_len;
};

/* NULL, or what is wrong with the line: static text. Members stream and expect are known only
 * when has_stream. The event points into text. */
const char *tl__event_line_parse(struct tl__texts *t, const char *text, size_t len, bool has_stream,
                                 struct tl__event_line *line);

#endif
