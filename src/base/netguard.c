/*
 * netguard.c: see netguard.h. IPv4 is judged by a list of what is not public, IPv6 by being in
 * 2000::/3 without the parts of it that are not public or carry an IPv4 address.
 */
#include "netguard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const not_public_v4[] = {
    "0.0.0.0/8",     "10.0.0.0/8",      "100.64.0.0/10",  "127.0.0.0/8",    "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",
};
static const char *const not_public_v6[] = {
    "2001::/23",     /* protocol assignments: Teredo, benchmarking, ORCHID */
    "2001:db8::/32", /* documentation */
    "2002::/16",     /* 6to4 */
    "3fff::/20",     /* documentation */
};

static bool parse_cidr(const char *text, size_t len, struct tl__cidr *ret)
{
    char address[64];
    size_t n = strcspn(text, "/");
    unsigned most = 128, base = 0;

    if (n > len)
        n = len;
    if (n >= sizeof address)
        return false;
    memcpy(address, text, n);
    address[n] = 0;
    memset(ret->bytes, 0, sizeof ret->bytes);
    if (inet_pton(AF_INET, address, ret->bytes + 12) == 1) {
        memset(ret->bytes + 10, 0xff, 2);
        most = 32;
        base = 96;
    } else if (inet_pton(AF_INET6, address, ret->bytes) != 1) {
        return false;
    }
    ret->bits = base + most;
    if (n == len)
        return true;
    size_t digits = strspn(text + n + 1, "0123456789");
    if (digits < 1 || digits > 3 || n + 1 + digits != len)
        return false;
    unsigned long bits = strtoul(text + n + 1, NULL, 10);
    ret->bits = base + (unsigned)bits;
    return bits <= most;
}

static bool covers(const struct tl__cidr *cidr, const uint8_t bytes[16])
{
    unsigned whole = cidr->bits / 8, rest = cidr->bits % 8;

    return memcmp(cidr->bytes, bytes, whole) == 0 &&
           (rest == 0 || (cidr->bytes[whole] ^ bytes[whole]) >> (8 - rest) == 0);
}

static bool is_in(const char *const *list, size_t count, const uint8_t bytes[16])
{
    struct tl__cidr cidr;

    for (size_t i = 0; i < count; i++)
        if (parse_cidr(list[i], strlen(list[i]), &cidr) && covers(&cidr, bytes))
            return true;
    return false;
}

/* Letters, digits, '-', '_' and dots, and not only digits and dots: that would be an address. */
static bool parse_host(const char *text, size_t len, char ret[TL_NETGUARD_MAX_HOST])
{
    bool is_name = false;

    if (len >= TL_NETGUARD_MAX_HOST || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
        if (!is_letter && c != '.' && !(c >= '0' && c <= '9'))
            return false;
        is_name = is_name || is_letter;
        ret[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    ret[len] = 0;
    return is_name;
}

bool tl__netguard_allow(struct tl__netguard *guard, const char *list)
{
    size_t count = guard->allow_count, hosts = guard->host_count;

    for (const char *at = list; *at;) {
        at += strspn(at, ", ");
        size_t len = strcspn(at, ", ");
        if (len == 0)
            break;
        if (count < TL_NETGUARD_MAX_ALLOW && parse_cidr(at, len, &guard->allow[count]))
            count++;
        else if (hosts < TL_NETGUARD_MAX_ALLOW && parse_host(at, len, guard->hosts[hosts]))
            hosts++;
        else
            return false;
        at += len;
    }
    guard->allow_count = count;
    guard->host_count = hosts;
    return true;
}

bool tl__netguard_permits_host(const struct tl__netguard *guard, const char *host)
{
    for (size_t i = 0; i < guard->host_count; i++)
        if (strcasecmp(guard->hosts[i], host) == 0)
            return true;
    return false;
}

bool tl__netguard_permits(const struct tl__netguard *guard, const struct sockaddr *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t bytes[16];

    if (address->sa_family == AF_INET) {
        memcpy(bytes, mapped, sizeof mapped);
        memcpy(bytes + 12, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    } else {
        return false;
    }
    if (guard->is_open)
        return true;
    for (size_t i = 0; i < guard->allow_count; i++)
        if (covers(&guard->allow[i], bytes))
            return true;
    if (memcmp(bytes, mapped, sizeof mapped) == 0)
        return !is_in(not_public_v4, sizeof not_public_v4 / sizeof *not_public_v4, bytes);
    return (bytes[0] & 0xe0) == 0x20 &&
           !is_in(not_public_v6, sizeof not_public_v6 / sizeof *not_public_v6, bytes);
}
