/*
 * webhook_signature: signing and verifying as the Standard Webhooks specification has it (SUB-11).
 * The values of v1 are the specification's own example, those of v1a the first key of RFC 8032 used
 * by another implementation. tests/e2e compares with the specification's library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include <trunkline/trunkline.h>

#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define AT "1614265330"
#define BODY "{\"test\": 2432232314}"
#define NOW_US 1614265330000000

static const char shared[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
static const char v1[] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
static const char private[] =
    "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
static const char seed[] = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
static const char public[] = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
static const char v1a[] =
    "v1a,fldxM4gAKugP6nnt1hdz3sgGfZ6d99nzrMFnZOELIxbzEHoVmAb2ADpkJK7zgPePmPsle0zV9jSeGlHFG2NVAw==";
static const char other[] = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static char *sign(const char *const *keys, size_t n)
{
    char *signature = NULL;

    assert_int_equal(tl_webhook_sign(keys, n, ID, 1614265330, BODY, strlen(BODY), &signature),
                     TL_OK);
    return signature;
}

static tl_status verify(const char *key, const char *signature, const char *body)
{
    return tl_webhook_verify(&key, 1, ID, AT, signature, body, strlen(body),
                             TL_WEBHOOK_VERIFY_OPTIONS(.now_us = NOW_US), NULL);
}

static void test_known_values(void **state)
{
    const char *const keys[] = {shared, private, seed};
    char *all = sign(keys, 3), *one = sign(keys, 1), expected[512];

    (void)state;
    assert_string_equal(one, v1);
    snprintf(expected, sizeof expected, "%s %s %s", v1, v1a, v1a);
    assert_string_equal(all, expected);
    assert_int_equal(verify(shared, one, BODY), TL_OK);
    assert_int_equal(verify(public, all, BODY), TL_OK);
    assert_int_equal(verify(private, all, BODY), TL_OK);
    tl_free(one);
    tl_free(all);
}

static void test_every_length_of_key_and_body(void **state)
{
    unsigned char bytes[64], mac[32];
    char body[300], content[400], secret[128] = "whsec_", expected[64] = "v1,";
    const char *const keys[] = {secret};

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(251 * i + 7);
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)(i % 94 + 33);
    for (size_t key_len = 24; key_len <= sizeof bytes; key_len++) {
        EVP_EncodeBlock((unsigned char *)secret + strlen("whsec_"), bytes, (int)key_len);
        for (size_t len = 0; len <= sizeof body; len += 1 + key_len % 5) {
            char *made = NULL;
            int content_len =
                snprintf(content, sizeof content, "m.%zu.1.%.*s", len, (int)len, body);
            char id[24];

            snprintf(id, sizeof id, "m.%zu", len);
            assert_non_null(HMAC(EVP_sha256(), bytes, (int)key_len, (unsigned char *)content,
                                 (size_t)content_len, mac, NULL));
            EVP_EncodeBlock((unsigned char *)expected + strlen("v1,"), mac, sizeof mac);
            assert_int_equal(tl_webhook_sign(keys, 1, id, 1, body, len, &made), TL_OK);
            assert_string_equal(made, expected);
            tl_free(made);
        }
    }
}

static void test_several_signatures_and_keys(void **state)
{
    const char *const both[] = {other, shared};
    const char *why = "untouched";
    char many[1024];

    (void)state;
    snprintf(many, sizeof many, "v1,AAAA v2,%s  v1a,x %s v1,", v1 + 3, v1);
    assert_int_equal(verify(shared, many, BODY), TL_OK);
    assert_int_equal(tl_webhook_verify(both, 2, ID, AT, v1, BODY, strlen(BODY),
                                       TL_WEBHOOK_VERIFY_OPTIONS(.now_us = NOW_US), &why),
                     TL_OK);
    assert_null(why);
    assert_int_equal(verify(other, many, BODY), TL_E_DENIED);
}

static void test_what_does_not_fit(void **state)
{
    static const char *const signatures[] = {
        "",
        " ",
        "v1",
        "v1,",
        "fldxM4gAKugP6nnt1hdz3sgGfZ6d99nzrMFnZOELIxbzEHoVmAb2ADpkJK7zgPePmPsle0zV9jSeGlHFG2NVAw==",
        "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    };
    char cut[128], relabelled[256];

    (void)state;
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
        assert_int_equal(verify(shared, signatures[i], BODY), TL_E_DENIED);
    for (size_t i = 1; i < strlen(v1) - 1; i++) { /* any character changed, any cut */
        snprintf(cut, sizeof cut, "%s", v1);
        cut[i] = cut[i] == 'B' ? 'C' : 'B';
        assert_int_equal(verify(shared, cut, BODY), TL_E_DENIED);
        snprintf(cut, sizeof cut, "%.*s", (int)i, v1);
        assert_int_equal(verify(shared, cut, BODY), TL_E_DENIED);
    }
    assert_int_equal(verify(shared, v1, "{\"test\": 2432232315}"), TL_E_DENIED);
    assert_int_equal(verify(shared, v1, ""), TL_E_DENIED);
    assert_int_equal(verify(public, v1, BODY), TL_E_DENIED);
    assert_int_equal(verify(shared, v1a, BODY), TL_E_DENIED);
    snprintf(relabelled, sizeof relabelled, "v1%s", v1a + 3);
    assert_int_equal(verify(public, relabelled, BODY), TL_E_DENIED);
    /* id and time are signed too */
    assert_int_equal(tl_webhook_verify((const char *const[]){shared}, 1, "msg_other", AT, v1, BODY,
                                       strlen(BODY), TL_WEBHOOK_VERIFY_OPTIONS(.now_us = NOW_US),
                                       NULL),
                     TL_E_DENIED);
    assert_int_equal(tl_webhook_verify((const char *const[]){shared}, 1, ID, "1614265331", v1, BODY,
                                       strlen(BODY), TL_WEBHOOK_VERIFY_OPTIONS(.now_us = NOW_US),
                                       NULL),
                     TL_E_DENIED);
}

static void test_time(void **state)
{
    static const struct {
        const char *at;
        int64_t now_us;
        uint64_t tolerance_us;
        bool any_time;
        tl_status expected;
        const char *why;
    } cases[] = {
        {AT, NOW_US + 300000000, 0, false, TL_OK, NULL},
        {AT, NOW_US + 301000000, 0, false, TL_E_DENIED, "the timestamp is too old"},
        {AT, NOW_US - 300000000, 0, false, TL_OK, NULL},
        {AT, NOW_US - 301000000, 0, false, TL_E_DENIED, "the timestamp lies in the future"},
        {AT, NOW_US + 301000000, 400000000, false, TL_OK, NULL},
        {AT, NOW_US + 2000000, 1000000, false, TL_E_DENIED, "the timestamp is too old"},
        {AT, 0, 0, false, TL_E_DENIED, "the timestamp is too old"},
        {AT, 0, 0, true, TL_OK, NULL},
        {NULL, NOW_US, 0, true, TL_E_DENIED, "webhook-timestamp is missing or malformed"},
        {"", NOW_US, 0, true, TL_E_DENIED, "webhook-timestamp is missing or malformed"},
        {" " AT, NOW_US, 0, true, TL_E_DENIED, "webhook-timestamp is missing or malformed"},
        {"0" AT, NOW_US, 0, true, TL_E_DENIED, "webhook-timestamp is missing or malformed"},
        {"-1", NOW_US, 0, true, TL_E_DENIED, "webhook-timestamp is missing or malformed"},
        {"99999999999999999999", NOW_US, 0, true, TL_E_DENIED,
         "webhook-timestamp is missing or malformed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *why = "untouched", *key = shared;
        assert_int_equal(
            tl_webhook_verify(&key, 1, ID, cases[i].at, v1, BODY, strlen(BODY),
                              TL_WEBHOOK_VERIFY_OPTIONS(.now_us = cases[i].now_us,
                                                        .tolerance_us = cases[i].tolerance_us,
                                                        .any_time = cases[i].any_time),
                              &why),
            cases[i].expected);
        if (cases[i].why)
            assert_string_equal(why, cases[i].why);
        else
            assert_null(why);
    }
}

static void test_malformed(void **state)
{
    static const char *const keys[] = {
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_AAAA",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
        "whsec_"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        NULL,
    };
    static const char *const ids[] = {NULL, "", "a b", "a\nb"};
    const char *why = NULL, *key = shared;
    char *signature = NULL, *secret = NULL, long_id[300];

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_int_equal(tl_webhook_sign(&keys[i], 1, ID, 1, BODY, 1, &signature), TL_E_INVALID);
        assert_int_equal(verify(keys[i], v1, BODY), TL_E_INVALID);
    }
    key = public;
    assert_int_equal(tl_webhook_sign(&key, 1, ID, 1, BODY, 1, &signature), TL_E_INVALID);
    key = shared;
    memset(long_id, 'x', sizeof long_id);
    long_id[256] = 0;
    assert_int_equal(tl_webhook_sign(&key, 1, long_id, 1, BODY, 1, &signature), TL_E_INVALID);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_int_equal(tl_webhook_sign(&key, 1, ids[i], 1, BODY, 1, &signature), TL_E_INVALID);
        assert_int_equal(tl_webhook_verify(&key, 1, ids[i], AT, v1, BODY, 1, NULL, &why),
                         TL_E_DENIED);
        assert_string_equal(why, "webhook-id is missing or malformed");
    }
    assert_int_equal(tl_webhook_sign(&key, 0, ID, 1, BODY, 1, &signature), TL_E_INVALID);
    assert_int_equal(tl_webhook_sign(&key, 1, ID, -1, BODY, 1, &signature), TL_E_INVALID);
    assert_int_equal(tl_webhook_verify(&key, 0, ID, AT, v1, BODY, 1, NULL, &why), TL_E_INVALID);
    assert_int_equal(tl_webhook_verify(&key, 1, ID, AT, NULL, BODY, 1, NULL, &why), TL_E_DENIED);
    assert_string_equal(why, "webhook-signature is missing");
    assert_int_equal(tl_webhook_verify(&key, 1, ID, AT, v1, BODY, 1,
                                       &(tl_webhook_verify_options){.any_time = true}, &why),
                     TL_E_INVALID);
    assert_int_equal(tl_webhook_key_new((tl_webhook_scheme)7, &secret, &secret), TL_E_INVALID);
    assert_int_equal(tl_webhook_key_new(TL_WEBHOOK_V1A, &secret, NULL), TL_E_INVALID);
    assert_null(signature);
    assert_null(secret);
}

static void test_new_keys(void **state)
{
    char *secret = NULL, *again = NULL, *whpk = NULL, *signature = NULL;

    (void)state;
    assert_int_equal(tl_webhook_key_new(TL_WEBHOOK_V1, &secret, NULL), TL_OK);
    assert_int_equal(tl_webhook_key_new(TL_WEBHOOK_V1, &again, &whpk), TL_OK);
    assert_null(whpk);
    assert_int_equal(strlen(secret), strlen("whsec_") + 44);
    assert_string_not_equal(secret, again);
    signature = sign((const char *const[]){secret}, 1);
    assert_int_equal(verify(secret, signature, BODY), TL_OK);
    assert_int_equal(verify(again, signature, BODY), TL_E_DENIED);
    tl_free(signature);
    tl_free(secret);
    tl_free(again);
    assert_int_equal(tl_webhook_key_new(TL_WEBHOOK_V1A, &secret, &whpk), TL_OK);
    signature = sign((const char *const[]){secret}, 1);
    assert_int_equal(verify(whpk, signature, BODY), TL_OK);
    assert_int_equal(verify(public, signature, BODY), TL_E_DENIED);
    tl_free(signature);
    tl_free(secret);
    tl_free(whpk);
}

/* The exact bytes count, NUL among them, and an empty body is one. */
static void test_any_bytes(void **state)
{
    static const char bytes[] = "a\0b\xff";
    const char *key = shared;
    char *signature = NULL;

    (void)state;
    for (size_t len = 0; len < sizeof bytes; len++) {
        assert_int_equal(tl_webhook_sign(&key, 1, ID, 1614265330, bytes, len, &signature), TL_OK);
        for (size_t other_len = 0; other_len < sizeof bytes; other_len++)
            assert_int_equal(tl_webhook_verify(&key, 1, ID, AT, signature, bytes, other_len,
                                               TL_WEBHOOK_VERIFY_OPTIONS(.now_us = NOW_US), NULL),
                             other_len == len ? TL_OK : TL_E_DENIED);
        tl_free(signature);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_every_length_of_key_and_body),
        cmocka_unit_test(test_several_signatures_and_keys),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_new_keys),
        cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests_name("webhook_signature", tests, NULL, NULL);
}
