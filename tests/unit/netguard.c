/*
 * netguard: which addresses a webhook may reach (SUB-11).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "netguard.h"

static bool permits(const struct tl__netguard *guard, const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return tl__netguard_permits(guard, (struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return tl__netguard_permits(guard, (struct sockaddr *)&v6);
}

static void test_refused(void **state)
{
    static const char *const addresses[] = {
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    };
    struct tl__netguard guard = {0};

    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        if (permits(&guard, addresses[i]))
            fail_msg("%s is permitted", addresses[i]);
}

static void test_permitted(void **state)
{
    static const char *const addresses[] = {
        "1.1.1.1",     "8.8.8.8",      "9.255.255.255",  "11.0.0.1",    "100.63.255.255",
        "100.128.0.0", "126.0.0.1",    "128.0.0.1",      "169.253.0.1", "172.15.255.255",
        "172.32.0.1",  "192.0.1.1",    "192.167.0.1",    "198.17.0.1",  "198.20.0.1",
        "223.255.1.1", "2a00:1450::1", "2606:4700::1",   "2001:4860::", "2001:200::1",
        "2003::1",     "2400:cb00::1", "::ffff:8.8.8.8", "3ffe::1",
    };
    struct tl__netguard guard = {0};

    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        if (!permits(&guard, addresses[i]))
            fail_msg("%s is refused", addresses[i]);
}

static void test_allow_list(void **state)
{
    struct tl__netguard guard = {0};

    (void)state;
    assert_true(tl__netguard_allow(&guard, "127.0.0.1, 10.8.0.0/14,fd00:1::/32,,192.168.7.0/25"));
    assert_int_equal(guard.allow_count, 4);
    assert_true(permits(&guard, "127.0.0.1"));
    assert_false(permits(&guard, "127.0.0.2"));
    assert_true(permits(&guard, "::ffff:127.0.0.1"));
    assert_true(permits(&guard, "10.8.0.0"));
    assert_true(permits(&guard, "10.11.255.255"));
    assert_false(permits(&guard, "10.12.0.0"));
    assert_false(permits(&guard, "10.7.255.255"));
    assert_true(permits(&guard, "fd00:1:ffff::1"));
    assert_false(permits(&guard, "fd00:2::1"));
    assert_true(permits(&guard, "192.168.7.127"));
    assert_false(permits(&guard, "192.168.7.128"));
    assert_true(permits(&guard, "8.8.8.8"));
}

static void test_malformed_lists(void **state)
{
    static const char *const lists[] = {
        "x!",          "10.0.0.0/33",   "10.0.0.0/",   "10.0.0/8",      "::/129", "10.0.0.0/8x",
        "10.0.0.0/-1", "10.0.0.0/08 /", "127.0.0.1,-", "10.0.0.0/0008", ".local", "a/8",
        "*.a",         "1.2.3",         "http://a",    "a:80",
    };
    struct tl__netguard guard = {0};

    (void)state;
    assert_true(tl__netguard_allow(&guard, "10.0.0.0/8"));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (tl__netguard_allow(&guard, lists[i]))
            fail_msg("\"%s\" is accepted", lists[i]);
    assert_int_equal(guard.allow_count, 1);
    for (size_t i = 1; i < TL_NETGUARD_MAX_ALLOW; i++)
        assert_true(tl__netguard_allow(&guard, "127.0.0.1"));
    assert_false(tl__netguard_allow(&guard, "127.0.0.1"));
}

static void test_hosts(void **state)
{
    struct tl__netguard guard = {0};

    (void)state;
    assert_true(tl__netguard_allow(&guard, "10.0.0.0/8,Hooks.Example.com my-host_1"));
    assert_true(tl__netguard_permits_host(&guard, "hooks.example.com"));
    assert_true(tl__netguard_permits_host(&guard, "HOOKS.example.COM"));
    assert_true(tl__netguard_permits_host(&guard, "my-host_1"));
    assert_false(tl__netguard_permits_host(&guard, "example.com"));
    assert_false(tl__netguard_permits_host(&guard, "a.hooks.example.com"));
    assert_false(tl__netguard_permits_host(&guard, "hooks.example.com.evil.example"));
    assert_false(tl__netguard_permits_host(&guard, "10.0.0.1"));
    assert_false(tl__netguard_permits_host(&guard, ""));
    assert_true(permits(&guard, "10.0.0.1"));
    assert_false(permits(&guard, "127.0.0.1"));
}

static void test_open_and_other_families(void **state)
{
    struct tl__netguard guard = {.is_open = true};
    struct sockaddr_un local = {.sun_family = AF_UNIX};

    (void)state;
    assert_true(permits(&guard, "127.0.0.1"));
    assert_true(permits(&guard, "::1"));
    assert_false(tl__netguard_permits(&guard, (struct sockaddr *)&local));
    assert_true(tl__netguard_allow(&(struct tl__netguard){0}, "0.0.0.0/0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_permitted),
        cmocka_unit_test(test_allow_list), cmocka_unit_test(test_malformed_lists),
        cmocka_unit_test(test_hosts),      cmocka_unit_test(test_open_and_other_families),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
