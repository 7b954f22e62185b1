/* Preloaded into the bridge by tests/it/support/disk.rs: calls on the journal's files fail as the file
 * $DISK_FAULT_FILE says, "sync ERRNO" or "write ERRNO"; without that file all goes on as usual. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fault(const char *call, int fd) {
    const char *order = getenv("DISK_FAULT_FILE");
    char link[64], path[4096], wanted[16];
    int number = 0;
    ssize_t length;
    FILE *file;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (!order || length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, "journal.db") || !(file = fopen(order, "r"))) return 0;
    if (fscanf(file, "%15s %d", wanted, &number) != 2 || strcmp(wanted, call) != 0) number = 0;
    fclose(file);
    return number;
}

#define REPLACE(type, call, name, parameters, arguments)              \
    type name parameters {                                            \
        static type(*real) parameters;                                \
        int number = fault(call, fd);                                 \
        if (number) { errno = number; return -1; }                    \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);         \
        return real arguments;                                        \
    }

REPLACE(int, "sync", fsync, (int fd), (fd))
REPLACE(int, "sync", fdatasync, (int fd), (fd))
REPLACE(ssize_t, "write", pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
REPLACE(ssize_t, "write", pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
REPLACE(ssize_t, "write", write, (int fd, const void *b, size_t n), (fd, b, n))
