/*
 * replay.c: calls a fuzz target with every file of a corpus, so that what was found once stays found
 * without clang. TAP on stdout; usage: fuzz_<target> CORPUS.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

static int is_input(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool replay(FILE *tap, const char *folder, const char *name)
{
    static uint8_t data[1 << 20];
    char path[4096];
    FILE *file;
    size_t len;
    char *exact;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    if (file == NULL)
        return false;
    len = fread(data, 1, sizeof data, file);
    (void)fclose(file);
    fprintf(tap, "# %s\n", name); /* the last one before a crash is the culprit */
    (void)fflush(tap);
    exact = malloc(len > 0 ? len : 1);
    if (exact == NULL)
        return false;
    memcpy(exact, data, len);
    (void)LLVMFuzzerTestOneInput((const uint8_t *)exact, len);
    free(exact);
    return true;
}

int main(int argc, char **argv)
{
    /* A target may print on stdout: that is no TAP. */
    FILE *tap = fdopen(dup(STDOUT_FILENO), "w");
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct dirent **entries = NULL;
    int count = argc == 2 ? scandir(argv[1], &entries, is_input, alphasort) : -1;
    int read_count = 0;

    if (tap == NULL || nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0)
        return 2;
    (void)close(nowhere);
    for (int i = 0; i < count; i++) {
        read_count += replay(tap, argv[1], entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    /* A corpus that went missing would be a test of nothing. */
    fprintf(tap, "%sok 1 - %d of %d inputs replayed\n1..1\n",
            count > 0 && read_count == count ? "" : "not ", read_count, count);
    (void)fclose(tap);
    return count > 0 && read_count == count ? 0 : 1;
}
