/* event_row.c: a row of the log whose cells have any length and content, as no server of ours sends them:
 * each cell is a byte of length (255: NULL) and so many bytes. */
#include "fuzz.h"

#include "arrays.h"
#include "internal.h"

enum { TOKEN = TL__EVENT_COLUMNS, ATTEMPT, COLUMNS };

static PGresult *make_row(struct fuzz_input *in)
{
    static char name[] = "c";
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresAttDesc columns[COLUMNS];
    Oid json = in->at < in->end && *in->at++ & 1 ? TL__OID_JSONB : TL__OID_TEXT;

    for (int i = 0; i < COLUMNS; i++)
        columns[i] = (PGresAttDesc){.name = name, .format = 1, .typid = json, .typlen = -1};
    fuzz_check(res != NULL && PQsetResultAttrs(res, COLUMNS, columns));
    for (int i = 0; i < COLUMNS; i++) {
        size_t left = (size_t)(in->end - in->at);
        size_t len = left == 0 ? 255 : *in->at++;
        char *value;

        left = (size_t)(in->end - in->at);
        if (len == 255) {
            fuzz_check(PQsetvalue(res, 0, i, NULL, -1));
            continue;
        }
        if (len > left)
            len = left;
        value = fuzz_copy(in->at, len);
        fuzz_check(PQsetvalue(res, 0, i, value, (int)len));
        in->at += len;
        free(value);
    }
    return res;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    tl_batch *batch = tl__batch_new(make_row(&in), 0, TOKEN, ATTEMPT);
    const tl_event *e = tl_batch_event(batch, 0);
    const char *texts[] = {tl_event_type(e), tl_event_source(e), tl_event_stream(e),
                           tl_event_key(e), tl_event_tenant_id(e)};
    size_t len = 0, longest = size;
    char *json;

    fuzz_check(batch != NULL && tl_batch_count(batch) == 1 && tl_batch_event(batch, 1) == NULL);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        fuzz_check(texts[i] == NULL || strlen(texts[i]) <= longest);
    (void)tl_event_data(e, &len);
    fuzz_check(len <= longest);
    (void)tl_event_metadata(e, &len);
    fuzz_check(len <= longest);
    fuzz_check(strlen(tl_event_id(e)) == 0 || strlen(tl_event_id(e)) == 36);
    fuzz_check(tl_event_schema_version(e) >= 1);
    (void)tl_event_is_redacted(e);
    (void)tl_batch_attempt(batch, 0);
    (void)tl_batch_token(batch);
    json = tl_event_to_json(e, &len);
    fuzz_check(json != NULL && json[0] == '{' && json[len - 1] == '}');
    tl_free(json);
    batch = tl_batch_free(batch);
    return 0;
}
