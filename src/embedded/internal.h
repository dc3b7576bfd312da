/*
 * internal.h: what the files of src/embedded share. For them only.
 */
#ifndef TL_EMBEDDED_INTERNAL_H
#define TL_EMBEDDED_INTERNAL_H

#include "embedded.h"

#include "clock.h"

#include <limits.h>

#define OLDEST_MAJOR 14
#define NEWEST_MAJOR 40 /* of the versioned paths that are tried */
#define SERVER_PORT 5432
#define SOCKET_NAME ".s.PGSQL.5432"
#define SOCKET_PATH_BYTES 107 /* sun_path without its NUL */
#define NAP_MS 5
#define MAX_GROUPS 64

#define LOCK_FILE "trunkline.lock"
#define USERS_FILE "users.lock"
#define SERVER_FILE "server.lock"
#define MARK_FILE "stopping"
#define LOG_FILE "server.log"
#define DATA_DIR "data"
#define TMP_DIR "data.tmp"
#define RUN_DIR "run"

/* Whom the server runs as. */
struct server_user {
    uid_t uid;
    gid_t gid;
    char name[64];
    bool is_other; /* the caller is root: drop to it in the child */
    int group_count;
    gid_t groups[MAX_GROUPS];
};

struct tl__embedded {
    char dir[TL__EMBEDDED_DIR_BYTES];
    char bindir[PATH_MAX];
    int major;
    struct server_user user;
    char socket_dir[SOCKET_PATH_BYTES + 1];
    char conninfo[512];
    int dir_fd;
    int lock_fd;
    int users_fd;
    pid_t child; /* server that this handle started and has to reap, or 0 */
    pid_t server_pid;
    bool was_started;
    uint64_t timeout_us;
    uint64_t stop_timeout_us;
    void (*progress)(tl__embedded_phase phase, const char *text, void *userdata);
    void *userdata;
};

enum server_state {
    SERVER_NONE, /* no process of it is left */
    SERVER_BUSY, /* processes, but no word from them: just forked, left-over backends, initdb */
    SERVER_STARTING,
    SERVER_READY, /* says so itself; a ping decides */
    SERVER_STOPPING,
};

struct server {
    enum server_state state;
    pid_t pid;   /* 0: not visible from here */
    int pid_fd;  /* -1 when pid is 0 */
    int lock_fd; /* SERVER_NONE: the locked server.lock, to be inherited by what is started */
    char socket_dir[SOCKET_PATH_BYTES + 1];
};

/* error.c */
tl_status tl__embedded_fail(tl__embedded_error *err, tl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void tl__embedded_detail(tl__embedded_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tl__embedded_hint(tl__embedded_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tl__embedded_clear(tl__embedded_error *err);
void tl__embedded_report(const tl__embedded *e, tl__embedded_phase phase);
int tl__embedded_close_fd(int fd); /* returns -1 */

/* locate.c: fills dir, bindir, major. is_program_needed false: only dir, for a stop. */
tl_status tl__embedded_locate(tl__embedded *e, const tl__embedded_options *opts,
                              bool is_program_needed, tl__embedded_error *err);

/* directory.c */
tl_status tl__embedded_find_user(struct server_user *user, tl__embedded_error *err);
tl_status tl__embedded_claim_dir(tl__embedded *e, tl__embedded_error *err);
tl_status tl__embedded_open_dir(tl__embedded *e, tl__embedded_error *err); /* TL_NOTHING: none */
tl_status tl__embedded_choose_socket_dir(tl__embedded *e, tl__embedded_error *err);
int tl__embedded_own_subdir(int parent_fd, const char *name, const struct server_user *user);
int tl__embedded_remove_tree(int parent_fd, const char *name);
int tl__embedded_read_major(int dir_fd, const char *path); /* of PG_VERSION; 0: none, -1: bad */

/* lock.c */
int tl__embedded_open_lock(const tl__embedded *e, const char *name);
bool tl__embedded_try_lock(int fd, int operation);
tl_status tl__embedded_wait_lock(const tl__embedded *e, int fd, uint64_t deadline_us,
                                 tl__embedded_error *err);
void tl__embedded_nap(int pid_fd); /* ends early when that process does */

/* spawn.c */
struct spawn {
    const char *program; /* in bindir */
    const char *const *arguments;
    int stdin_fd; /* -1: /dev/null */
    int lock_fd;  /* inherited */
    int log_fd;   /* stderr of what is no daemon; -1: server.log */
    bool is_daemon;
};
tl_status tl__embedded_spawn(const tl__embedded *e, const struct spawn *spawn, pid_t *ret_pid,
                             tl__embedded_error *err);
/* Run to its end; anything but exit code 0 is TL_E_SERVER with the end of its stderr. */
tl_status tl__embedded_run(const tl__embedded *e, const struct spawn *spawn,
                           tl__embedded_error *err);
off_t tl__embedded_log_size(const tl__embedded *e);
void tl__embedded_rotate_log(const tl__embedded *e);
/* Add to the error what the server logged since then, at most its last lines. */
void tl__embedded_log_tail(const tl__embedded *e, off_t from, tl__embedded_error *err);

/* server.c */
void tl__embedded_look(const tl__embedded *e, struct server *ret);
void tl__embedded_look_done(struct server *server);
tl_status tl__embedded_start_server(tl__embedded *e, struct server *none, tl__embedded_error *err);
tl_status tl__embedded_stop_server(tl__embedded *e, tl__embedded_error *err);
bool tl__embedded_is_stop_unfinished(const tl__embedded *e);
void tl__embedded_stop_is_finished(const tl__embedded *e);
void tl__embedded_reap(tl__embedded *e);

/* initdb.c: makes DIR/data unless it is there; refuses data of another version. */
tl_status tl__embedded_check_data(const tl__embedded *e, bool *ret_exists, tl__embedded_error *err);
tl_status tl__embedded_make_data(const tl__embedded *e, int server_lock_fd,
                                 tl__embedded_error *err);

#endif
