/* webhook.c: "key\nid\ntimestamp\nsignature\n" and a body: keys, signing, verifying. Who signs can verify; one
 * byte more, and nobody can. */
#include "fuzz.h"

#include <trunkline/trunkline.h>

static tl_status verify(const char *key, const char *id, const char *timestamp,
                        const char *signature, const char *body, size_t len)
{
    const char *why = NULL;
    tl_status status = tl_webhook_verify(&key, 1, id, timestamp, signature, body, len,
                                         TL_WEBHOOK_VERIFY_OPTIONS(.any_time = true), &why);

    fuzz_check(status == TL_OK || status == TL_E_DENIED || status == TL_E_INVALID);
    fuzz_check((status == TL_OK) == (why == NULL));
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    char *key = fuzz_line(&in), *id = fuzz_line(&in), *timestamp = fuzz_line(&in);
    char *signature = fuzz_line(&in), *made = NULL;
    size_t len;
    char *body = fuzz_rest(&in, &len); /* its NUL is the byte more */
    const char *const keys[2] = {key, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"};

    if (verify(key, id, timestamp, signature, body, len) == TL_OK)
        fuzz_check(verify(key, id, timestamp, signature, body, len + 1) == TL_E_DENIED);
    if (tl_webhook_sign(keys, 2, id, 1700000000, body, len, &made) == TL_OK) {
        fuzz_check(verify(keys[0], id, "1700000000", made, body, len) == TL_OK);
        fuzz_check(verify(keys[1], id, "1700000000", made, body, len) == TL_OK);
        fuzz_check(verify(keys[1], id, "1700000001", made, body, len) == TL_E_DENIED);
        fuzz_check(verify(keys[1], id, "1700000000", made, body, len + 1) == TL_E_DENIED);
        fuzz_check(verify(keys[0], id, "1700000000", made, body, len + 1) == TL_E_DENIED);
        tl_free(made);
    }
    free(key);
    free(id);
    free(timestamp);
    free(signature);
    free(body);
    return 0;
}
