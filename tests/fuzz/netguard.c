/* netguard.c: "list\nhost\n" and bytes of an address: the guard against webhooks that lead inside. */
#include "fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>

#include "netguard.h"

/* Bit by bit, of both in 128 bits. */
static bool is_within(const struct tl__cidr *cidr, const uint8_t bytes[16])
{
    for (unsigned i = 0; i < cidr->bits; i++)
        if (((cidr->bytes[i / 8] ^ bytes[i / 8]) >> (7 - i % 8) & 1) != 0)
            return false;
    return true;
}

static bool is_allowed(const struct tl__netguard *guard, const uint8_t bytes[16])
{
    for (size_t i = 0; i < guard->allow_count; i++)
        if (is_within(&guard->allow[i], bytes))
            return true;
    return false;
}

/* The networks that must never be reached by default, as a person would write them down. */
static bool is_inside_v4(const uint8_t *a)
{
    return a[0] == 0 || a[0] == 10 || a[0] == 127 || a[0] >= 224 || (a[0] == 169 && a[1] == 254) ||
           (a[0] == 172 && a[1] >= 16 && a[1] < 32) || (a[0] == 192 && a[1] == 168) ||
           (a[0] == 100 && a[1] >= 64 && a[1] < 128);
}

static void check_address(const struct tl__netguard *guard, const uint8_t bytes[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    struct sockaddr_in four = {.sin_family = AF_INET};
    uint8_t wide[16];
    bool is_permitted;

    memcpy(&six.sin6_addr, bytes, 16);
    is_permitted = tl__netguard_permits(guard, (const struct sockaddr *)&six);
    if (is_allowed(guard, bytes))
        fuzz_check(is_permitted);
    else if (memcmp(bytes, mapped, 12) != 0)
        fuzz_check(!is_permitted || (bytes[0] >> 5) == 1);

    memcpy(&four.sin_addr, bytes, 4);
    memcpy(wide, mapped, 12);
    memcpy(wide + 12, bytes, 4);
    is_permitted = tl__netguard_permits(guard, (const struct sockaddr *)&four);
    if (is_allowed(guard, wide))
        fuzz_check(is_permitted);
    else
        fuzz_check(!is_permitted || !is_inside_v4(bytes));
    /* the same address in its long form is the same address */
    memcpy(&six.sin6_addr, wide, 16);
    fuzz_check(tl__netguard_permits(guard, (const struct sockaddr *)&six) == is_permitted);
}

static void check_host(const struct tl__netguard *guard, const char *host)
{
    uint8_t ignored[16];
    bool is_known = false;

    for (size_t i = 0; i < guard->host_count; i++) {
        /* an address is never taken for a name: it would pass unchecked */
        fuzz_check(inet_pton(AF_INET, guard->hosts[i], ignored) != 1);
        fuzz_check(inet_pton(AF_INET6, guard->hosts[i], ignored) != 1);
        is_known = is_known || strcasecmp(guard->hosts[i], host) == 0;
    }
    fuzz_check(tl__netguard_permits_host(guard, host) == is_known);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    struct tl__netguard *guard = calloc(1, sizeof *guard), *before = calloc(1, sizeof *before);
    char *list = fuzz_line(&in), *host = fuzz_line(&in);
    uint8_t bytes[16] = {0};

    if (guard == NULL || before == NULL)
        abort();
    memcpy(bytes, in.at, (size_t)(in.end - in.at) < 16 ? (size_t)(in.end - in.at) : 16);
    fuzz_check(tl__netguard_allow(guard, "fd00::/8, hooks.example"));
    *before = *guard;
    if (!tl__netguard_allow(guard, list)) {
        fuzz_check(guard->allow_count == before->allow_count);
        fuzz_check(guard->host_count == before->host_count);
    }
    for (size_t i = 0; i < guard->allow_count; i++) {
        fuzz_check(guard->allow[i].bits <= 128);
        check_address(guard, guard->allow[i].bytes);
    }
    check_address(guard, bytes);
    check_host(guard, host);
    guard->is_open = true;
    fuzz_check(tl__netguard_permits(
        guard, (const struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET}));
    free(list);
    free(host);
    free(guard);
    free(before);
    return 0;
}
