/*
 * bench.c: trunkline-bench, what it measures and in which order. Run it by bench/run, which gives
 * it a throw-away cluster with durable settings.
 */
#include "bench.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A budget of time cuts off the end: what takes longest is last. On two quiet cores the peers begin
 * after a quarter of an hour, well within it. */
static const struct section {
    const char *name, *bars; /* set of goals */
    void (*measure)(const struct bench *b);
} sections[] = {
    {"publish", "core", measure_publish},
    {"threads", "core", measure_publish_threads},
    {"group", "speed", measure_group},
    {"batch", "core", measure_batch},
    {"drain", "core", measure_drain},
    {"latency", "core", measure_latency},
    {"held", "speed", measure_held},
    {"space", "core", measure_space},
    {"fanout", "delivery", measure_fanout},
    {"retries", "delivery", measure_retries},
    {"schedule", "delivery", measure_schedule},
    {"webhook", "delivery", measure_webhook},
    {"append", "store", measure_append},
    {"store", "store", measure_store},
    {"large", "speed", measure_large},
    {"peers", "speed", measure_peers},
};
enum { SECTION_COUNT = sizeof sections / sizeof sections[0], SECTION_LIMIT_S = 420 };

static const char usage[] =
    "usage: trunkline-bench [option...] [section...]\n"
    "  sections: publish threads group batch drain latency held space fanout retries\n"
    "            schedule webhook append store large peers (default: all)\n"
    "  --db CONNINFO     database with superuser rights, to be written to (default: libpq's)\n"
    "  --program PATH    trunkline, for the memory of serve\n"
    "  --message-db PATH installs message-db, to be compared with (default: not compared)\n"
    "  --peers DIR       installs and drives the peers (default: not measured)\n"
    "  --commit TEXT     what is measured\n"
    "  --disk TEXT       what it is stored on\n"
    "  --out FILE        results as NDJSON (default: bench-results.ndjson)\n"
    "  --rounds N        turns of each variant (default 5, at most 50)\n"
    "  --seconds S       length of one turn (default 1)\n"
    "  --quick           3 turns of 0.5 s and a tenth of the events: a few minutes\n"
    "  --full            9 turns of 1.5 s, twice the backlog, 10 million events in the store\n"
    "  --minutes M       begin no section after so long (default 25; 0: no limit)\n"
    "  --check           exit with 1 when a bar is missed\n";

struct settings {
    struct bench bench;
    const char *commit;
    const char *disk;
    const char *out;
    bool is_check;
    double minutes;
};

static void refuse(const char *what, const char *text) __attribute__((noreturn));
static void refuse(const char *what, const char *text)
{
    fprintf(stderr, "trunkline-bench: %s: \"%s\"\n%s", what, text, usage);
    exit(2);
}

static double number(const char *text, double least, double most, const char *what)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= least && value <= most))
        refuse(what, text);
    return value;
}

static void parse(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {
        {"db", required_argument, NULL, 'd'},
        {"program", required_argument, NULL, 'p'},
        {"commit", required_argument, NULL, 'v'},
        {"out", required_argument, NULL, 'o'},
        {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"quick", no_argument, NULL, 'q'},
        {"full", no_argument, NULL, 'f'},
        {"disk", required_argument, NULL, 'D'},
        {"minutes", required_argument, NULL, 'M'},
        {"check", no_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"message-db", required_argument, NULL, 'm'},
        {"peers", required_argument, NULL, 'P'},
        {0},
    };
    struct bench *b = &s->bench;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'd':
            b->conninfo = optarg;
            break;
        case 'p':
            b->program = optarg;
            break;
        case 'm':
            b->message_db = optarg;
            break;
        case 'P':
            b->peers = optarg;
            break;
        case 'v':
            s->commit = optarg;
            break;
        case 'o':
            s->out = optarg;
            break;
        case 'r':
            b->rounds = (int)number(optarg, 1, MAX_ROUNDS, "--rounds is not 1 to 50");
            break;
        case 's':
            b->round_s = number(optarg, 0.01, 3600, "--seconds is not 0.01 to 3600");
            break;
        case 'q':
            b->rounds = 3;
            b->round_s = 0.5;
            b->backlog = 50000;
            b->latency_round_s = 2;
            b->log_events = 1000000;
            break;
        case 'f':
            b->rounds = 9;
            b->round_s = 1.5;
            b->backlog = 200000;
            b->latency_round_s = 5;
            b->store_events = 10000000;
            s->minutes = 0;
            break;
        case 'D':
            s->disk = optarg;
            break;
        case 'M':
            s->minutes = number(optarg, 0, 10000, "--minutes is not 0 to 10000");
            break;
        case 'c':
            s->is_check = true;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }
}

static void facts_of_machine(void)
{
    char line[256];
    char text[300] = "?";
    struct utsname name;
    FILE *f = fopen("/proc/cpuinfo", "re");

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "model name", 10) == 0) {
            const char *model = strchr(line, ':');

            line[strcspn(line, "\n")] = '\0';
            snprintf(text, sizeof text, "%ld x%s", sysconf(_SC_NPROCESSORS_ONLN),
                     model != NULL ? model + 1 : "");
            break;
        }
    }
    if (f != NULL)
        fclose(f);
    report_fact("cpu", text);
    snprintf(text, sizeof text, "%ld MiB",
             sysconf(_SC_PHYS_PAGES) / 1024 * sysconf(_SC_PAGESIZE) / 1024);
    report_fact("memory", text);
    if (uname(&name) == 0) {
        snprintf(text, sizeof text, "%s %s %s", name.sysname, name.release, name.machine);
        report_fact("kernel", text);
    }
}

/* A neighbour's work shows here: ratios bear it, events/s and latencies do not. */
static void fact_of_load(const char *name)
{
    char line[256];
    FILE *f = fopen("/proc/loadavg", "re");

    if (f == NULL)
        return;
    if (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        report_fact(name, line);
    }
    fclose(f);
}

static void facts_of_server(const struct bench *b)
{
    static const char *const settings[] = {
        "fsync",     "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers",
        "wal_level", "max_wal_size",       "autovacuum",       "max_connections",
    };

    sql_note(b, "server", "SELECT version()");
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        char sql[64];

        snprintf(sql, sizeof sql, "SHOW %s", settings[i]);
        sql_note(b, settings[i], sql);
    }
}

static void facts(const struct settings *s)
{
    time_t now = time(NULL);
    struct tm tm;
    char text[64];

    gmtime_r(&now, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    report_fact("date", text);
    report_fact("trunkline", tl_version());
    report_fact("commit", s->commit);
    facts_of_machine();
    report_fact("disk", s->disk);
    fact_of_load("load before");
    facts_of_server(&s->bench);
    snprintf(text, sizeof text, "%d rounds of %.1f s", s->bench.rounds, s->bench.round_s);
    report_fact("rounds", text);
}

static void migrate(const struct bench *b)
{
    tl_client *c;
    int applied;

    if (tl_client_open_unchecked(b->conninfo, NULL, &c) != TL_OK ||
        tl_migrate_up(c, &applied) != TL_OK)
        die("migrate", tl_error_message(tl_client_error(c)));
    tl_client_close(c);
}

static bool is_wanted(const char *name, int argc, char **argv)
{
    for (int i = optind; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return optind >= argc;
}

static void check_names(int argc, char **argv)
{
    for (int i = optind; i < argc; i++) {
        bool is_known = false;

        for (int k = 0; k < SECTION_COUNT; k++)
            is_known = is_known || strcmp(argv[i], sections[k].name) == 0;
        if (!is_known)
            refuse("no such section", argv[i]);
    }
}

static void connect_admin(struct bench *b)
{
    b->admin = connect_to(b->conninfo, "trunkline-bench");
    sql_exec(b->admin, "SET client_min_messages = warning");
}

static volatile sig_atomic_t running; /* process group of the section */

static void on_signal(int number)
{
    if (running > 0)
        kill(-(pid_t)running, SIGKILL);
    signal(number, SIG_DFL);
    raise(number);
}

/* In a process of its own, which may die, with all that it started, while the rest goes on. False:
 * it failed. */
static bool run_section(const struct settings *s, const struct section *section, uint64_t start_ns)
{
    struct bench b = s->bench;
    uint64_t section_ns = tl__clock_ns();
    char text[64];
    int status;
    pid_t pid;

    if (s->minutes > 0 && (double)(section_ns - start_ns) > s->minutes * 60e9) {
        report_failure(section->name, "not begun: the time was over (--minutes)");
        return true;
    }
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        alarm(s->minutes > 0 ? SECTION_LIMIT_S : 0);
        connect_admin(&b);
        report_bars_of(section->bars);
        section->measure(&b);
        PQfinish(b.admin);
        fflush(NULL);
        _exit(0);
    }
    if (pid < 0)
        die("fork", section->name);
    running = pid;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid", section->name);
    running = 0;
    kill(-pid, SIGKILL); /* consumers of one that died; nobody is left of one that ended */
    snprintf(text, sizeof text, "%.0f s", (double)(tl__clock_ns() - section_ns) / 1e9);
    report_fact(section->name, text);
    if (status == 0)
        return true;
    snprintf(text, sizeof text, "failed: %s %d", WIFSIGNALED(status) ? "signal" : "exit code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    report_failure(section->name, text);
    return false;
}

int main(int argc, char **argv)
{
    static char self[4096];
    struct settings s = {
        .bench = {.conninfo = "",
                  .self = self,
                  .rounds = 5,
                  .round_s = 1,
                  .backlog = 100000,
                  .latency_round_s = 2,
                  .log_events = 10000000,
                  .store_events = 1000000},
        .minutes = 25,
        .commit = "?",
        .disk = "?",
        .out = "bench-results.ndjson",
    };
    uint64_t start_ns = tl__clock_ns();
    int failed = 0;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (argc > 1 && strcmp(argv[1], "consumer") == 0)
        return consumer_main(argc, argv);
    if (n < 0)
        die("/proc", "is not mounted");
    parse(argc, argv, &s);
    check_names(argc, argv);
    connect_admin(&s.bench);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    report_open(s.out);
    facts(&s);
    migrate(&s.bench);
    tables_create(&s.bench);
    PQfinish(s.bench.admin);
    for (int i = 0; i < SECTION_COUNT; i++) {
        if (is_wanted(sections[i].name, argc, argv))
            failed += !run_section(&s, &sections[i], start_ns);
    }
    putchar('\n');
    fact_of_load("load after");
    return (report_close() > 0 && s.is_check) || failed > 0 ? 1 : 0;
}
