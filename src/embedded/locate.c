/*
 * locate.c: which directory and which server programs. Reads only.
 *
 * Data decides the version: where data is, its own major version is looked for, so that an upgrade
 * of the system neither hides nor endangers it.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Where packages put the programs of one major version. */
static const char *const versioned_paths[] = {
    "/usr/lib/postgresql/%d/bin", /* Debian, Ubuntu */
    "/usr/pgsql-%d/bin",          /* postgresql.org packages for Red Hat and SUSE */
    "/usr/libexec/postgresql%d",  /* Alpine */
};

/* What the search has come by. */
struct search {
    int want; /* 0: the newest */
    char bindir[PATH_MAX];
    int major;
    int other; /* a version found that was not wanted, or too old */
};

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool has_programs(const char *bindir)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof(path), "%s/initdb", bindir) < PATH_MAX &&
           access(path, X_OK) == 0 &&
           snprintf(path, sizeof(path), "%s/postgres", bindir) < PATH_MAX &&
           access(path, X_OK) == 0;
}

/* First line of what a program prints, without its newline. */
static bool first_line(const char *program, const char *argument, char *line, size_t size)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    char *arguments[] = {(char *)program, (char *)argument, NULL};
    pid_t pid;
    int error = posix_spawnp(&pid, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    tl__embedded_close_fd(ends[1]);
    size_t length = 0;
    if (error == 0) {
        ssize_t got;
        while (length < size - 1 && (got = read(ends[0], line + length, size - 1 - length)) > 0)
            length += (size_t)got;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    tl__embedded_close_fd(ends[0]);
    line[length] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return line[0] != '\0';
}

/* "postgres (PostgreSQL) 15.18 (Debian ...)", "postgres (PostgreSQL) 16beta1" */
static int program_major(const char *bindir)
{
    char path[PATH_MAX], line[256];
    if (snprintf(path, sizeof(path), "%s/postgres", bindir) >= PATH_MAX ||
        !first_line(path, "-V", line, sizeof(line)))
        return 0;
    const char *version = strstr(line, ") ");
    return version ? (int)strtol(version + 2, NULL, 10) : 0;
}

/* major 0: ask the program. */
static bool try_bindir(struct search *search, const char *bindir, int major)
{
    if (strlen(bindir) >= sizeof(search->bindir) || !has_programs(bindir))
        return false;
    if (major == 0)
        major = program_major(bindir);
    if (major < OLDEST_MAJOR || (search->want && major != search->want)) {
        if (major > search->other)
            search->other = major;
        return false;
    }
    snprintf(search->bindir, sizeof(search->bindir), "%s", bindir);
    search->major = major;
    return true;
}

static bool search_versioned(struct search *search, int newest, int oldest)
{
    for (int major = newest; major >= oldest; major--)
        for (size_t i = 0; i < sizeof(versioned_paths) / sizeof(versioned_paths[0]); i++) {
            char bindir[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(bindir, sizeof(bindir), versioned_paths[i], major);
#pragma GCC diagnostic pop
            if (try_bindir(search, bindir, major))
                return true;
        }
    return false;
}

static bool search_path(struct search *search)
{
    const char *path = environment("PATH");
    while (path && *path) {
        size_t length = strcspn(path, ":");
        char bindir[PATH_MAX];
        if (length > 0 && *path == '/' && length < sizeof(bindir)) {
            memcpy(bindir, path, length);
            bindir[length] = '\0';
            if (try_bindir(search, bindir, 0))
                return true;
        }
        path += length + (path[length] == ':');
    }
    return false;
}

static bool search_everywhere(struct search *search)
{
    char bindir[PATH_MAX];
    if (search->want && search_versioned(search, search->want, search->want))
        return true;
    if (first_line("pg_config", "--bindir", bindir, sizeof(bindir)) &&
        try_bindir(search, bindir, 0))
        return true;
    return search_versioned(search, NEWEST_MAJOR, OLDEST_MAJOR) || search_path(search);
}

/* ---------------------------------------------------------------------------------- directory -- */

/* Where pgNN stands by default. */
static tl_status default_root(char *root, size_t size, tl__embedded_error *err)
{
    int length;
    const char *base = environment("XDG_DATA_HOME");
    if (geteuid() == 0) {
        length = snprintf(root, size, "/var/lib/trunkline");
    } else if (base && base[0] == '/') { /* a relative one is to be ignored, says its standard */
        length = snprintf(root, size, "%s/trunkline", base);
    } else {
        const struct passwd *entry = NULL;
        base = environment("HOME");
        if (!base && (entry = getpwuid(geteuid())) != NULL)
            base = entry->pw_dir;
        if (!base || base[0] != '/') {
            tl__embedded_fail(err, TL_E_INVALID, "no home directory for the private PostgreSQL");
            tl__embedded_hint(err, "set HOME, XDG_DATA_HOME or TRUNKLINE_DATA_DIR");
            return TL_E_INVALID;
        }
        length = snprintf(root, size, "%s/.local/share/trunkline", base);
    }
    if (length < 0 || (size_t)length >= size)
        return tl__embedded_fail(err, TL_E_INVALID, "name of the data directory is too long");
    return TL_OK;
}

static int data_major(const char *dir)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s/PG_VERSION", dir, DATA_DIR) >= PATH_MAX)
        return 0;
    int major = tl__embedded_read_major(AT_FDCWD, path);
    return major > 0 ? major : 0;
}

/* The newest pgNN that has data, or 0. */
static int newest_data(const char *root)
{
    for (int major = NEWEST_MAJOR; major >= OLDEST_MAJOR; major--) {
        char dir[TL__EMBEDDED_DIR_BYTES + 16];
        snprintf(dir, sizeof(dir), "%s/pg%d", root, major);
        if (data_major(dir) == major)
            return major;
    }
    return 0;
}

static tl_status not_found(const struct search *search, const char *explicit_bindir,
                           const char *dir, tl__embedded_error *err)
{
    if (search->want && search->other) {
        tl__embedded_fail(
            err, TL_E_UNSUPPORTED,
            "private data was made by PostgreSQL %d, the programs found are version %d",
            search->want, search->other);
        tl__embedded_detail(err, "data directory \"%s\"; nothing in it was changed", dir);
        tl__embedded_hint(
            err,
            "install PostgreSQL %d (Debian and Ubuntu: package postgresql-%d), or set "
            "TRUNKLINE_PG_BINDIR to its programs, or TRUNKLINE_DATA_DIR to a new "
            "directory",
            search->want, search->want);
        return TL_E_UNSUPPORTED;
    }
    int package = search->want ? search->want : 15;
    if (explicit_bindir) {
        tl__embedded_fail(err, TL_E_NOTFOUND, "no PostgreSQL server programs in \"%s\"",
                          explicit_bindir);
        tl__embedded_detail(err, "\"postgres\" and \"initdb\" of version %d or newer are needed",
                            OLDEST_MAJOR);
    } else {
        tl__embedded_fail(err, TL_E_NOTFOUND, "no PostgreSQL server programs found");
        tl__embedded_detail(
            err,
            "\"postgres\" and \"initdb\" of version %d or newer are needed; searched "
            "TRUNKLINE_PG_BINDIR, pg_config --bindir, /usr/lib/postgresql/*/bin and "
            "PATH",
            OLDEST_MAJOR);
    }
    tl__embedded_hint(err,
                      "install the server (Debian and Ubuntu: package postgresql-%d or newer), set "
                      "TRUNKLINE_PG_BINDIR, or name a database with --db or TRUNKLINE_DB",
                      package);
    return TL_E_NOTFOUND;
}

tl_status tl__embedded_locate(tl__embedded *e, const tl__embedded_options *opts,
                              bool is_program_needed, tl__embedded_error *err)
{
    const char *dir = opts && opts->dir ? opts->dir : environment("TRUNKLINE_DATA_DIR");
    const char *bindir = opts && opts->bindir ? opts->bindir : environment("TRUNKLINE_PG_BINDIR");
    struct search search = {0};
    char root[TL__EMBEDDED_DIR_BYTES - 16];

    if (dir) {
        size_t length = strlen(dir);
        while (length > 1 && dir[length - 1] == '/') /* "link/" would follow the link */
            length--;
        if (length == 0 || length >= sizeof(e->dir))
            return tl__embedded_fail(err, TL_E_INVALID,
                                     "name of the data directory is too long "
                                     "or empty");
        memcpy(e->dir, dir, length);
        e->dir[length] = '\0';
        search.want = data_major(e->dir);
    } else {
        tl_status status = default_root(root, sizeof(root), err);
        if (status != TL_OK)
            return status;
        /* Naming programs is choosing a version. */
        search.want = bindir ? 0 : newest_data(root);
    }

    bool is_found = bindir ? try_bindir(&search, bindir, 0) : search_everywhere(&search);
    if (!is_found && is_program_needed) {
        if (!dir && search.want)
            snprintf(e->dir, sizeof(e->dir), "%s/pg%d", root, search.want);
        return not_found(&search, bindir, e->dir, err);
    }
    snprintf(e->bindir, sizeof(e->bindir), "%s", search.bindir);
    e->major = search.major ? search.major : search.want;
    if (!dir)
        snprintf(e->dir, sizeof(e->dir), "%s/pg%d", root, e->major);
    return TL_OK;
}
