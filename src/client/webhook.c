/*
 * webhook.c: signatures of the Standard Webhooks specification: HMAC-SHA256 ("v1", whsec_) and
 * Ed25519 ("v1a", whsk_ signs, whpk_ verifies) over "id.timestamp.body". Knows no HTTP.
 */
#include "internal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "clock.h"

enum {
    MIN_SECRET_BYTES = 24, /* both bounds are the specification's */
    MAX_SECRET_BYTES = 64,
    NEW_SECRET_BYTES = 32,
    SEED_BYTES = 32, /* of Ed25519; a whsk_ is the seed, mostly with the public key behind it */
    PUBLIC_BYTES = 32,
    SIGNATURE_BYTES = 64,
    DIGEST_BYTES = 32,
    MAX_TEXT_BYTES = 128, /* of a key or a signature in base64 */
};
static const uint64_t DEFAULT_TOLERANCE_US = 300000000;

enum key_kind { KEY_SYMMETRIC, KEY_PRIVATE, KEY_PUBLIC };

struct key {
    enum key_kind kind;
    unsigned char bytes[MAX_SECRET_BYTES];
    size_t len;
};

/* ----------------------------------------------------------------------------------- base64 -- */

static size_t base64_encode(const unsigned char *data, size_t len, char *ret)
{
    return (size_t)EVP_EncodeBlock((unsigned char *)ret, data, (int)len);
}

/* What a character stands for; 64: nothing. */
static unsigned int base64_value(char c)
{
    return c >= 'A' && c <= 'Z'   ? (unsigned int)(c - 'A')
           : c >= 'a' && c <= 'z' ? (unsigned int)(c - 'a') + 26
           : c >= '0' && c <= '9' ? (unsigned int)(c - '0') + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : 64;
}

/* Standard alphabet, padded or not, nothing else. */
static bool base64_decode(const char *text, size_t len, unsigned char *ret, size_t size,
                          size_t *ret_len)
{
    uint32_t bits = 0;
    size_t n = 0, count = 0, padding = 0;

    while (len > 0 && text[len - 1] == '=' && padding < 3) {
        len--;
        padding++;
    }
    if (len % 4 == 1 || (padding > 0 && (len + padding) % 4 != 0))
        return false;
    for (; count < len; count++) {
        unsigned int value = base64_value(text[count]);
        if (value == 64)
            return false;
        bits = bits << 6 | value;
        if (count % 4 == 0)
            continue;
        if (n == size)
            return false;
        ret[n++] = (unsigned char)(bits >> (6 - count % 4 * 2));
    }
    *ret_len = n;
    return true;
}

/* ------------------------------------------------------------------------------------- keys -- */

static void key_done(struct key *key)
{
    OPENSSL_cleanse(key, sizeof *key);
}

static bool key_parse(const char *text, struct key *ret, const char **ret_why)
{
    static const struct {
        const char *prefix;
        enum key_kind kind;
    } prefixes[] = {{"whsec_", KEY_SYMMETRIC}, {"whsk_", KEY_PRIVATE}, {"whpk_", KEY_PUBLIC}};

    *ret_why = "a key starts with whsec_, whsk_ or whpk_";
    for (size_t i = 0; text != NULL && i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t prefix = strlen(prefixes[i].prefix);
        if (strncmp(text, prefixes[i].prefix, prefix) != 0)
            continue;
        ret->kind = prefixes[i].kind;
        *ret_why = "a key ends in base64 of the right length";
        if (!base64_decode(text + prefix, strlen(text + prefix), ret->bytes, sizeof ret->bytes,
                           &ret->len))
            return false;
        return ret->kind == KEY_SYMMETRIC ? ret->len >= MIN_SECRET_BYTES
               : ret->kind == KEY_PRIVATE
                   ? ret->len == SEED_BYTES || ret->len == SEED_BYTES + PUBLIC_BYTES
                   : ret->len == PUBLIC_BYTES;
    }
    return false;
}

static char *key_text(const char *prefix, const unsigned char *bytes, size_t len)
{
    char *text = malloc(strlen(prefix) + (len + 2) / 3 * 4 + 1);

    if (text != NULL) {
        memcpy(text, prefix, strlen(prefix));
        base64_encode(bytes, len, text + strlen(prefix));
    }
    return text;
}

tl_status tl_webhook_key_new(tl_webhook_scheme scheme, char **ret_secret, char **ret_public)
{
    unsigned char bytes[MAX_SECRET_BYTES];
    char *secret = NULL, *public_text = NULL;

    if (ret_secret == NULL || (scheme == TL_WEBHOOK_V1A && ret_public == NULL) ||
        (scheme != TL_WEBHOOK_V1 && scheme != TL_WEBHOOK_V1A))
        return TL_E_INVALID;
    if (RAND_priv_bytes(bytes, SEED_BYTES) != 1)
        return TL_E_NOMEM;
    if (scheme == TL_WEBHOOK_V1) {
        secret = key_text("whsec_", bytes, NEW_SECRET_BYTES);
    } else {
        size_t len = PUBLIC_BYTES;
        EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, bytes, SEED_BYTES);
        if (pkey != NULL && EVP_PKEY_get_raw_public_key(pkey, bytes + SEED_BYTES, &len) == 1) {
            secret = key_text("whsk_", bytes, SEED_BYTES + PUBLIC_BYTES);
            public_text = key_text("whpk_", bytes + SEED_BYTES, PUBLIC_BYTES);
        }
        EVP_PKEY_free(pkey);
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    if (secret == NULL || (scheme == TL_WEBHOOK_V1A && public_text == NULL)) {
        free(secret);
        free(public_text);
        return TL_E_NOMEM;
    }
    *ret_secret = secret;
    if (ret_public != NULL)
        *ret_public = public_text;
    return TL_OK;
}

/* ------------------------------------------------------------------------------ sign, verify -- */

static bool is_id(const char *id)
{
    size_t len = id == NULL ? 0 : strlen(id);

    /* an id may have dots (ours do): where the timestamp ends is settled by its tolerance */
    return len > 0 && len <= 255 && strpbrk(id, " \t\r\n") == NULL;
}

static bool add_content(struct tl__buf *content, const char *id, int64_t timestamp_s,
                        const void *body, size_t len)
{
    tl__buf_reserve(content, strlen(id) + 24 + len);
    tl__buf_add_str(content, id);
    tl__buf_add_char(content, '.');
    tl__buf_add_i64(content, timestamp_s);
    tl__buf_add_char(content, '.');
    tl__buf_add(content, body, len);
    return !content->is_failed;
}

/* HMAC-SHA256 without a key. OpenSSL takes longer to find it by name than to sign an event. */
static EVP_MAC_CTX *hmac_template;

static void make_hmac_template(void)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    char name[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *ctx = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);

    if (ctx != NULL && EVP_MAC_CTX_set_params(ctx, params) == 1)
        hmac_template = ctx; /* for as long as the process lives */
    else
        EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
}

static bool digest(const struct key *key, const struct tl__buf *content,
                   unsigned char ret[DIGEST_BYTES])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    size_t len = 0;

    (void)pthread_once(&once, make_hmac_template);
    EVP_MAC_CTX *ctx = hmac_template == NULL ? NULL : EVP_MAC_CTX_dup(hmac_template);
    bool is_fine = ctx != NULL && EVP_MAC_init(ctx, key->bytes, key->len, NULL) == 1 &&
                   EVP_MAC_update(ctx, (const unsigned char *)content->data, content->len) == 1 &&
                   EVP_MAC_final(ctx, ret, &len, DIGEST_BYTES) == 1 && len == DIGEST_BYTES;

    EVP_MAC_CTX_free(ctx);
    return is_fine;
}

static bool sign_ed25519(const struct key *key, const struct tl__buf *content,
                         unsigned char ret[SIGNATURE_BYTES])
{
    size_t len = SIGNATURE_BYTES;
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key->bytes, SEED_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_fine =
        pkey != NULL && ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
        EVP_DigestSign(ctx, ret, &len, (const unsigned char *)content->data, content->len) == 1 &&
        len == SIGNATURE_BYTES;

    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return is_fine;
}

static bool verify_ed25519(const struct key *key, const struct tl__buf *content,
                           const unsigned char *signature, size_t len)
{
    EVP_PKEY *pkey =
        key->kind == KEY_PUBLIC
            ? EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->bytes, PUBLIC_BYTES)
            : EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key->bytes, SEED_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_fine = len == SIGNATURE_BYTES && pkey != NULL && ctx != NULL &&
                   EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                   EVP_DigestVerify(ctx, signature, len, (const unsigned char *)content->data,
                                    content->len) == 1;

    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return is_fine;
}

tl_status tl_webhook_sign(const char *const *secrets, size_t n, const char *id, int64_t timestamp_s,
                          const void *body, size_t len, char **ret_signature)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf content = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;
    const char *ignored;

    if (secrets == NULL || n == 0 || !is_id(id) || timestamp_s < 0 || ret_signature == NULL ||
        (body == NULL && len > 0))
        return TL_E_INVALID;
    if (!add_content(&content, id, timestamp_s, body, len))
        return TL_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        unsigned char signature[SIGNATURE_BYTES];
        char text[MAX_TEXT_BYTES];
        struct key key;
        bool is_fine = key_parse(secrets[i], &key, &ignored) && key.kind != KEY_PUBLIC;
        bool is_symmetric = is_fine && key.kind == KEY_SYMMETRIC;
        bool is_signed = is_symmetric ? digest(&key, &content, signature)
                                      : is_fine && sign_ed25519(&key, &content, signature);

        key_done(&key);
        if (!is_fine)
            return TL_E_INVALID;
        if (!is_signed)
            return TL_E_NOMEM;
        base64_encode(signature, is_symmetric ? DIGEST_BYTES : SIGNATURE_BYTES, text);
        tl__buf_add_str(&out, i == 0 ? "" : " ");
        tl__buf_add_str(&out, is_symmetric ? "v1," : "v1a,");
        tl__buf_add_str(&out, text);
    }
    *ret_signature = tl__buf_take(&out, NULL);
    return *ret_signature == NULL ? TL_E_NOMEM : TL_OK;
}

/* Does one "version,base64" of the header fit the key? */
static bool fits(const struct key *key, const struct tl__buf *content, const char *item, size_t len)
{
    bool is_symmetric = key->kind == KEY_SYMMETRIC;
    const char *prefix = is_symmetric ? "v1," : "v1a,";
    unsigned char given[MAX_SECRET_BYTES], wanted[DIGEST_BYTES];
    size_t given_len;

    if (len <= strlen(prefix) || strncmp(item, prefix, strlen(prefix)) != 0 ||
        !base64_decode(item + strlen(prefix), len - strlen(prefix), given, sizeof given,
                       &given_len))
        return false;
    if (!is_symmetric)
        return verify_ed25519(key, content, given, given_len);
    return given_len == DIGEST_BYTES && digest(key, content, wanted) &&
           CRYPTO_memcmp(given, wanted, DIGEST_BYTES) == 0;
}

static tl_status check_time(int64_t timestamp_s, const tl_webhook_verify_options *opts,
                            const char **ret_why)
{
    int64_t now_s = (opts->now_us ? opts->now_us : tl__wall_us()) / 1000000;
    uint64_t tolerance_s =
        (opts->tolerance_us ? opts->tolerance_us : DEFAULT_TOLERANCE_US) / 1000000;
    uint64_t distance = timestamp_s > now_s ? (uint64_t)timestamp_s - (uint64_t)now_s
                                            : (uint64_t)now_s - (uint64_t)timestamp_s;

    if (distance <= tolerance_s)
        return TL_OK;
    *ret_why =
        timestamp_s > now_s ? "the timestamp lies in the future" : "the timestamp is too old";
    return TL_E_DENIED;
}

static bool parse_timestamp(const char *text, int64_t *ret)
{
    size_t len = text == NULL ? 0 : strlen(text);

    if (len < 1 || len > 15 || strspn(text, "0123456789") != len || (text[0] == '0' && len > 1))
        return false;
    *ret = strtoll(text, NULL, 10);
    return true;
}

tl_status tl_webhook_verify(const char *const *keys, size_t n, const char *id,
                            const char *timestamp, const char *signature, const void *body,
                            size_t len, const tl_webhook_verify_options *opts, const char **ret_why)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf content = TL_BUF_INIT;
    tl_webhook_verify_options options;
    const char *why = NULL;
    bool is_good = false;
    int64_t timestamp_s;

    if (ret_why == NULL)
        ret_why = &why;
    *ret_why = "no key given";
    if (keys == NULL || n == 0 || (body == NULL && len > 0))
        return TL_E_INVALID;
    *ret_why = "unknown option";
    if (tl__options_load(NULL, "tl_webhook_verify", &options, sizeof options, opts) != TL_OK)
        return TL_E_INVALID;
    *ret_why = "webhook-id is missing or malformed";
    if (!is_id(id))
        return TL_E_DENIED;
    *ret_why = "webhook-timestamp is missing or malformed";
    if (!parse_timestamp(timestamp, &timestamp_s))
        return TL_E_DENIED;
    *ret_why = "webhook-signature is missing";
    if (signature == NULL || *signature == '\0')
        return TL_E_DENIED;
    if (!options.any_time && check_time(timestamp_s, &options, ret_why) != TL_OK)
        return TL_E_DENIED;
    if (!add_content(&content, id, timestamp_s, body, len))
        return TL_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        struct key key;
        size_t item_len;
        bool is_key = key_parse(keys[i], &key, ret_why);

        for (const char *item = signature; is_key && *item; item += item_len) {
            item += strspn(item, " ");
            item_len = strcspn(item, " ");
            is_good = fits(&key, &content, item, item_len) || is_good;
        }
        key_done(&key);
        if (!is_key)
            return TL_E_INVALID;
    }
    *ret_why = is_good ? NULL : "no signature fits";
    return is_good ? TL_OK : TL_E_DENIED;
}
