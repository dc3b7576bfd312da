/*
 * netguard.h: which network addresses a program may be made to connect to by a URL that somebody
 * else wrote. Decides on addresses, not on names: ask when the address is known, at connect time.
 * Any folder may use it.
 */
#ifndef TL_NETGUARD_H
#define TL_NETGUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define TL_NETGUARD_MAX_ALLOW 64

struct tl__cidr {
    uint8_t bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;     /* of 128 */
};

/* Zeroed: only public unicast addresses pass. */
struct tl__netguard {
    bool is_open; /* everything passes */
    struct tl__cidr allow[TL_NETGUARD_MAX_ALLOW];
    size_t allow_count;
};

/* Add "10.0.0.0/8,fd00::/8,127.0.0.1"; false when a part is malformed or there are too many; then
 * the guard is as before. */
bool tl__netguard_allow(struct tl__netguard *guard, const char *list);
/* May this IPv4 or IPv6 address be connected to? Any other family: no. */
bool tl__netguard_permits(const struct tl__netguard *guard, const struct sockaddr *address);

#endif
