/*
 * directory.c: the data directory and the socket directory: make them, or refuse them untouched.
 *
 * As root everything below DIR belongs to an unprivileged user, so nothing here follows a symbolic
 * link there.
 */
#include "internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

/* ------------------------------------------------------------------------------------- users -- */

tl_status tl__embedded_find_user(struct server_user *user, tl__embedded_error *err)
{
    user->is_other = geteuid() == 0;
    const struct passwd *entry;
    if (user->is_other) {
        entry = getpwnam("postgres");
        if (!entry || entry->pw_uid == 0)
            entry = getpwnam("nobody");
    } else {
        entry = getpwuid(geteuid());
    }
    if (!entry || strlen(entry->pw_name) >= sizeof(user->name)) {
        if (user->is_other)
            tl__embedded_fail(err, TL_E_NOTFOUND, "no user \"postgres\" or \"nobody\"");
        else
            tl__embedded_fail(err, TL_E_NOTFOUND, "user id %u has no name", (unsigned)geteuid());
        tl__embedded_detail(err, "PostgreSQL must run as an unprivileged user that has a name");
        return TL_E_NOTFOUND;
    }
    user->uid = entry->pw_uid;
    user->gid = user->is_other ? entry->pw_gid : getegid();
    snprintf(user->name, sizeof(user->name), "%s", entry->pw_name);
    user->group_count = MAX_GROUPS;
    if (user->is_other &&
        getgrouplist(user->name, user->gid, user->groups, &user->group_count) < 0) {
        user->groups[0] = user->gid; /* too many: its own one is enough */
        user->group_count = 1;
    }
    return TL_OK;
}

/* ----------------------------------------------------------------------------- data directory -- */

static bool is_empty(int dir_fd)
{
    int fd = openat(dir_fd, ".", DIR_FLAGS);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        tl__embedded_close_fd(fd);
        return false;
    }
    bool is_empty = true;
    for (const struct dirent *entry; is_empty && (entry = readdir(dir)) != NULL;)
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(dir);
    return is_empty;
}

/* mkdir -p; only the last one is the server user's own. */
static tl_status make_path(const tl__embedded *e, tl__embedded_error *err)
{
    char path[TL__EMBEDDED_DIR_BYTES];
    snprintf(path, sizeof(path), "%s", e->dir);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, e->user.is_other ? 0755 : 0700) != 0 && errno != EEXIST)
            return tl__embedded_fail(err, errno == EACCES ? TL_E_DENIED : TL_E_SERVER,
                                     "could not create directory \"%s\": %m", path);
        *slash = '/';
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return tl__embedded_fail(err, errno == EACCES ? TL_E_DENIED : TL_E_SERVER,
                                 "could not create directory \"%s\": %m", path);
    return TL_OK;
}

static tl_status refuse_foreign(const tl__embedded *e, tl__embedded_error *err)
{
    bool is_cluster = tl__embedded_read_major(e->dir_fd, "PG_VERSION") != 0;
    tl__embedded_fail(err, TL_E_INVALID, "directory \"%s\" is not trunkline's", e->dir);
    tl__embedded_detail(err,
                        is_cluster ? "it holds a PostgreSQL cluster that trunkline did not make"
                                   : "it is not empty and has no \"%s\"",
                        LOCK_FILE);
    tl__embedded_hint(err, is_cluster
                               ? "start that server yourself and name its database with --db, or "
                                 "set TRUNKLINE_DATA_DIR to another directory"
                               : "set TRUNKLINE_DATA_DIR to an empty or a new directory");
    return TL_E_INVALID;
}

static tl_status check_owner(const tl__embedded *e, const struct stat *st, tl__embedded_error *err)
{
    if (st->st_uid != e->user.uid) {
        tl__embedded_fail(err, TL_E_DENIED, "directory \"%s\" belongs to another user", e->dir);
        tl__embedded_detail(err, "owner is user id %u, the server would run as \"%s\" (%u)",
                            (unsigned)st->st_uid, e->user.name, (unsigned)e->user.uid);
        tl__embedded_hint(err, "run as its owner, or set TRUNKLINE_DATA_DIR to another directory");
        return TL_E_DENIED;
    }
    if (st->st_mode & 077) {
        tl__embedded_fail(err, TL_E_DENIED, "directory \"%s\" is open to other users", e->dir);
        tl__embedded_detail(err, "its mode is 0%o and must be 0700", st->st_mode & 07777);
        tl__embedded_hint(err, "chmod 0700 %s", e->dir);
        return TL_E_DENIED;
    }
    return TL_OK;
}

/* TL_NOTHING when there is none. Makes e->dir absolute. */
static tl_status open_path(tl__embedded *e, tl__embedded_error *err)
{
    /* As root a link could lead into a directory that somebody else chose. */
    e->dir_fd =
        open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (e->user.is_other ? O_NOFOLLOW : 0));
    if (e->dir_fd < 0) {
        if (errno == ENOENT)
            return TL_NOTHING;
        int error = errno;
        struct stat st;
        bool is_link = lstat(e->dir, &st) == 0 && S_ISLNK(st.st_mode);
        if (is_link && e->user.is_other) {
            tl__embedded_fail(err, TL_E_DENIED, "\"%s\" is a symbolic link", e->dir);
            tl__embedded_detail(err, "as root trunkline does not follow it");
            tl__embedded_hint(err, "set TRUNKLINE_DATA_DIR to the directory itself");
            return TL_E_DENIED;
        }
        errno = error;
        return tl__embedded_fail(err, error == ENOTDIR ? TL_E_INVALID : TL_E_DENIED,
                                 "could not open directory \"%s\": %m", e->dir);
    }
    char *path = realpath(e->dir, NULL);
    if (!path || strlen(path) >= sizeof(e->dir)) {
        free(path);
        return tl__embedded_fail(err, TL_E_INVALID, "directory name \"%s\" is too long", e->dir);
    }
    snprintf(e->dir, sizeof(e->dir), "%s", path);
    free(path);
    return TL_OK;
}

static bool is_marked(const tl__embedded *e)
{
    struct stat st;
    return fstatat(e->dir_fd, LOCK_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static tl_status stat_dir(const tl__embedded *e, struct stat *st, tl__embedded_error *err)
{
    if (fstat(e->dir_fd, st) == 0)
        return TL_OK;
    return tl__embedded_fail(err, TL_E_SERVER, "could not stat directory \"%s\": %m", e->dir);
}

tl_status tl__embedded_open_dir(tl__embedded *e, tl__embedded_error *err)
{
    struct stat st;
    tl_status status = open_path(e, err);
    if (status != TL_OK)
        return status;
    if (!is_marked(e))
        return is_empty(e->dir_fd) ? TL_NOTHING : refuse_foreign(e, err);
    status = stat_dir(e, &st, err);
    return status == TL_OK ? check_owner(e, &st, err) : status;
}

tl_status tl__embedded_claim_dir(tl__embedded *e, tl__embedded_error *err)
{
    tl_status status = open_path(e, err);
    if (status == TL_NOTHING) {
        status = make_path(e, err);
        if (status == TL_OK)
            status = open_path(e, err);
        if (status == TL_NOTHING)
            return tl__embedded_fail(err, TL_E_SERVER, "directory \"%s\" vanished", e->dir);
    }
    if (status != TL_OK)
        return status;

    struct stat st;
    for (;;) {
        /* Look for the mark first: others claim at the same time, and set owner and mode before
         * they set the mark. */
        bool has_mark = is_marked(e);
        status = stat_dir(e, &st, err);
        if (status != TL_OK)
            return status;
        if (has_mark)
            return check_owner(e, &st, err);
        if (!is_empty(e->dir_fd)) {
            if (is_marked(e))
                continue;
            return refuse_foreign(e, err);
        }
        if (st.st_uid != e->user.uid && !(e->user.is_other && st.st_uid == 0))
            return check_owner(e, &st, err);
        if ((e->user.is_other && fchown(e->dir_fd, e->user.uid, e->user.gid) != 0) ||
            fchmod(e->dir_fd, 0700) != 0)
            return tl__embedded_fail(
                err, TL_E_DENIED, "could not set owner and mode of directory \"%s\": %m", e->dir);
        int fd = tl__embedded_open_lock(e, LOCK_FILE);
        if (fd < 0)
            return tl__embedded_fail(err, TL_E_SERVER, "could not create \"%s/%s\": %m", e->dir,
                                     LOCK_FILE);
        tl__embedded_close_fd(fd);
    }
}

/* Open a directory below another, made if absent: the server user's own, 0700. -1: errno says. */
int tl__embedded_own_subdir(int parent_fd, const char *name, const struct server_user *user)
{
    if (mkdirat(parent_fd, name, 0700) != 0 && errno != EEXIST)
        return -1;
    int fd = openat(parent_fd, name, DIR_FLAGS);
    if (fd < 0)
        return -1;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return tl__embedded_close_fd(fd);
    if (user->is_other && st.st_uid == 0 && is_empty(fd) && fchown(fd, user->uid, user->gid) == 0)
        st.st_uid = user->uid;
    if (st.st_uid != user->uid || (st.st_mode & 077)) {
        tl__embedded_close_fd(fd);
        errno = EPERM;
        return -1;
    }
    return fd;
}

/* --------------------------------------------------------------------------- socket directory -- */

/* PostgreSQL splits its list of socket directories, and libpq its list of hosts, at commas. */
static bool fits_socket(const char *path, size_t length)
{
    if (length + 1 + strlen(SOCKET_NAME) > SOCKET_PATH_BYTES || strpbrk(path, ",\"") != NULL)
        return false;
    for (const char *p = path; *p; p++)
        if (iscntrl((unsigned char)*p))
            return false;
    return true;
}

static bool try_runtime_dir(tl__embedded *e, const char *parent)
{
    /* Of this very directory: the name alone may come again, in a container or after a move. */
    struct stat st;
    if (fstat(e->dir_fd, &st) != 0)
        return false;
    char identity[sizeof(e->dir) + 64];
    snprintf(identity, sizeof(identity), "%llu:%llu:%s", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino, e->dir);
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *p = identity; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    char own[32], leaf[20], path[sizeof(e->socket_dir)];
    snprintf(own, sizeof(own), "trunkline-%u", (unsigned)e->user.uid);
    snprintf(leaf, sizeof(leaf), "%016llx", (unsigned long long)hash);
    int length = snprintf(path, sizeof(path), "%s/%s/%s", parent, own, leaf);
    if (length >= (int)sizeof(path) || !fits_socket(path, (size_t)length))
        return false;

    int parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int own_fd = parent_fd < 0 ? -1 : tl__embedded_own_subdir(parent_fd, own, &e->user);
    int leaf_fd = own_fd < 0 ? -1 : tl__embedded_own_subdir(own_fd, leaf, &e->user);
    bool is_made = leaf_fd >= 0;
    tl__embedded_close_fd(parent_fd);
    tl__embedded_close_fd(own_fd);
    tl__embedded_close_fd(leaf_fd);
    if (is_made)
        memcpy(e->socket_dir, path, (size_t)length + 1);
    return is_made;
}

tl_status tl__embedded_choose_socket_dir(tl__embedded *e, tl__embedded_error *err)
{
    char path[TL__EMBEDDED_DIR_BYTES + sizeof(RUN_DIR) + 1];
    size_t length = (size_t)snprintf(path, sizeof(path), "%s/%s", e->dir, RUN_DIR);
    if (fits_socket(path, length)) {
        int fd = tl__embedded_own_subdir(e->dir_fd, RUN_DIR, &e->user);
        if (fd < 0)
            return tl__embedded_fail(err, TL_E_SERVER, "could not use directory \"%s\": %m", path);
        tl__embedded_close_fd(fd);
        memcpy(e->socket_dir, path, length + 1);
        return TL_OK;
    }
    const char *runtime = e->user.is_other ? "/run" : getenv("XDG_RUNTIME_DIR");
    if ((runtime && runtime[0] == '/' && try_runtime_dir(e, runtime)) || try_runtime_dir(e, "/tmp"))
        return TL_OK;
    tl__embedded_fail(err, TL_E_DENIED, "no directory for the socket of the private PostgreSQL");
    tl__embedded_detail(
        err,
        "\"%s\" is too long for a socket, and \"/tmp/trunkline-%u\" could not be made "
        "or is not a directory of user \"%s\" with mode 0700",
        path, (unsigned)e->user.uid, e->user.name);
    tl__embedded_hint(err, "set TRUNKLINE_DATA_DIR to a shorter path%s",
                      e->user.is_other ? "" : ", or XDG_RUNTIME_DIR to a directory of your own");
    return TL_E_DENIED;
}

/* --------------------------------------------------------------------------------------- tools -- */

int tl__embedded_remove_tree(int parent_fd, const char *name)
{
    if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    int fd = openat(parent_fd, name, DIR_FLAGS);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        tl__embedded_close_fd(fd);
        return -1;
    }
    int result = 0;
    for (const struct dirent *entry; result == 0 && (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = tl__embedded_remove_tree(dirfd(dir), entry->d_name);
    closedir(dir);
    return result == 0 ? unlinkat(parent_fd, name, AT_REMOVEDIR) : result;
}

int tl__embedded_read_major(int dir_fd, const char *path)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    char text[16] = "";
    ssize_t length = read(fd, text, sizeof(text) - 1);
    tl__embedded_close_fd(fd);
    char *end = text;
    long major = length > 0 ? strtol(text, &end, 10) : 0;
    return end != text && (*end == '\n' || *end == '\0') && major > 0 && major < 1000 ? (int)major
                                                                                      : -1;
}
