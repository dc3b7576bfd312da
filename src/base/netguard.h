/*
 * netguard.h: which network addresses a program may be made to connect to by a URL that somebody
 * else wrote. Decides on addresses: ask when they are known, at connect time. A name decides only when
 * it was allowed by name.
 * Any folder may use it.
 */
#ifndef TL_NETGUARD_H
#define TL_NETGUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define TL_NETGUARD_MAX_ALLOW 64
#define TL_NETGUARD_MAX_HOST 256

struct tl__cidr {
    uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;     /* of 128 */
};

/* Zeroed: only public unicast addresses pass. */
struct tl__netguard {
    bool is_open; /* everything passes */
    struct tl__cidr allow[TL_NETGUARD_MAX_ALLOW];
    size_t allow_count;
    char hosts[TL_NETGUARD_MAX_ALLOW][TL_NETGUARD_MAX_HOST]; /* in lower case */
    size_t host_count;
};

/* Add "10.0.0.0/8,fd00::/8,127.0.0.1,hooks.example.com"; false when a part is malformed or there are too many; then
 * the guard is as before. */
bool tl__netguard_allow(struct tl__netguard *guard, const char *list);
/* May this IPv4 or IPv6 address be connected to? Any other family: no. */
bool tl__netguard_permits(const struct tl__netguard *guard, const struct sockaddr *address);
/* Was this name, as it stands in a URL, allowed whatever its addresses are? */
bool tl__netguard_permits_host(const struct tl__netguard *guard, const char *host);

#endif
