/* Records, in their order, all changes of files below one folder: a library to be preloaded (LD_PRELOAD).
 *
 * POWER_FOLDER names the folder, by its real path, and POWER_LOG the file that the entries are appended to. An entry is
 * a `struct entry` and `length` bytes. A call is made and recorded under one lock, so the entries have the order of
 * their effects; syncs alone run beside it, and have an entry before and one after. What changes files in a way that is
 * not recorded (see `alarm`) gets an entry too, for the reader to refuse. Calls that failed leave no entry.
 * See docs/durability.md.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 65536
#define LOG_FILE_LEAST 1000 /* out of the way of the numbers that the program counts on */
#define EXPORTED __attribute__((visibility("default")))
#define ALIAS(name) __attribute__((visibility("default"), alias(#name)))

enum kind { OPEN = 1, WRITE, TRUNCATE, CLOSE, SYNC, SYNCED, RENAME, UNLINK, MKDIR, RMDIR, LINK, MAPPED, MARK, ALARM };

struct entry {
    int32_t kind, file;
    uint64_t number; /* OPEN: its flags, WRITE: the offset, TRUNCATE: the length, SYNCED: as SYNC, which counts them */
    uint64_t length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char below[FILES_MAX]; /* by descriptor: whether the file is below the folder */
static char folder[PATH_MAX];
static size_t folder_length;
static int log_file = -1;
static uint64_t syncs;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("POWER_FOLDER"), *log = getenv("POWER_LOG");
    unsetenv("LD_PRELOAD"); /* programs that this one starts are not recorded */
    if (!path || !log || !realpath(path, folder)) return;
    folder_length = strlen(folder);
    int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) abort();
    log_file = fcntl(file, F_DUPFD_CLOEXEC, LOG_FILE_LEAST);
    if (log_file < 0) abort();
    syscall(SYS_close, file);
}

static void append(const void *bytes, size_t length) {
    for (const char *rest = bytes; length > 0;) {
        ssize_t written = syscall(SYS_write, log_file, rest, length);
        if (written < 0) abort();
        rest += written;
        length -= written;
    }
}

/* With the lock held. */
static void record(enum kind kind, int file, uint64_t number, const void *bytes, size_t length) {
    struct entry entry = {kind, file, number, length};
    append(&entry, sizeof entry);
    append(bytes, length);
}

static void record_text(enum kind kind, int file, uint64_t number, const char *text) {
    record(kind, file, number, text, strlen(text));
}

static void record_alone(enum kind kind, int file, uint64_t number, const char *text) {
    int error = errno;
    pthread_mutex_lock(&lock);
    record_text(kind, file, number, text);
    pthread_mutex_unlock(&lock);
    errno = error;
}

static int is_below(int file) {
    return log_file >= 0 && file >= 0 && file < FILES_MAX && below[file];
}

static void alarm_of(int file, const char *call) {
    if (is_below(file)) record_alone(ALARM, file, 0, call);
}

/* Whether a path lies below the folder; then its absolute form is in `full`. */
static int resolve(int base, const char *path, char full[PATH_MAX]) {
    if (log_file < 0 || !path) return 0;
    if (path[0] == '/') {
        if (strlen(path) >= PATH_MAX) return 0;
        strcpy(full, path);
    } else if (base == AT_FDCWD) {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here) || snprintf(full, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return 0;
    } else {
        alarm_of(base, "a path relative to a folder");
        return 0;
    }
    return strncmp(full, folder, folder_length) == 0 && (full[folder_length] == '/' || full[folder_length] == 0);
}

static int open_at(int base, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!resolve(base, path, full)) {
        int elsewhere = syscall(SYS_openat, base, path, flags, mode);
        if (is_below(elsewhere)) below[elsewhere] = 0; /* closed from inside libc */
        return elsewhere;
    }
    pthread_mutex_lock(&lock);
    int file = syscall(SYS_openat, base, path, flags, mode), error = errno;
    if (file >= FILES_MAX) abort();
    if (file >= 0) {
        below[file] = 1;
        record_text((flags & O_TMPFILE) == O_TMPFILE ? ALARM : OPEN, file, flags, full);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return file;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
}

#define OPEN_AT(base)                                  \
    va_list rest;                                      \
    va_start(rest, flags);                             \
    int file = open_at(base, path, flags, mode_of(flags, rest)); \
    va_end(rest);                                      \
    return file

EXPORTED int open(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD); }
EXPORTED int open64(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD); }
EXPORTED int openat(int base, const char *path, int flags, ...) { OPEN_AT(base); }
EXPORTED int openat64(int base, const char *path, int flags, ...) { OPEN_AT(base); }
EXPORTED int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
EXPORTED int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
EXPORTED int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
EXPORTED int creat64(const char *path, mode_t mode) ALIAS(creat);

/* Streams write from inside libc, unseen. */
static FILE *open_stream(const char *name, const char *path, const char *mode) {
    char full[PATH_MAX];
    FILE *(*next)(const char *, const char *) = (FILE * (*)(const char *, const char *))dlsym(RTLD_NEXT, name);
    FILE *stream = next(path, mode);
    if (stream && strpbrk(mode, "wa+") && resolve(AT_FDCWD, path, full)) record_alone(ALARM, -1, 0, full);
    return stream;
}

EXPORTED FILE *fopen(const char *path, const char *mode) { return open_stream("fopen", path, mode); }
EXPORTED FILE *fopen64(const char *path, const char *mode) { return open_stream("fopen64", path, mode); }

EXPORTED FILE *fdopen(int file, const char *mode) {
    FILE *(*next)(int, const char *) = (FILE * (*)(int, const char *))dlsym(RTLD_NEXT, "fdopen");
    if (strpbrk(mode, "wa+")) alarm_of(file, "fdopen");
    if (is_below(file)) below[file] = 0; /* fclose won't tell */
    return next(file, mode);
}

/* Writes of all forms: parts written one after the other, at an offset, or where the file stands (-1). */
static ssize_t write_parts(int file, const struct iovec *parts, int count, off_t offset) {
    if (!is_below(file)) {
        return offset < 0 ? syscall(SYS_writev, file, parts, count) : syscall(SYS_pwritev, file, parts, count, offset, 0);
    }
    pthread_mutex_lock(&lock);
    ssize_t written =
        offset < 0 ? syscall(SYS_writev, file, parts, count) : syscall(SYS_pwritev, file, parts, count, offset, 0);
    int error = errno;
    if (written > 0) {
        off_t at = offset < 0 ? lseek(file, 0, SEEK_CUR) - written : offset;
        struct entry entry = {WRITE, file, at, written};
        append(&entry, sizeof entry);
        for (size_t left = written; left > 0; parts++) {
            size_t taken = parts->iov_len < left ? parts->iov_len : left;
            append(parts->iov_base, taken);
            left -= taken;
        }
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

EXPORTED ssize_t write(int file, const void *bytes, size_t length) {
    if (!is_below(file)) return syscall(SYS_write, file, bytes, length);
    struct iovec part = {(void *)bytes, length};
    return write_parts(file, &part, 1, -1);
}

EXPORTED ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    if (!is_below(file)) return syscall(SYS_pwrite64, file, bytes, length, offset);
    struct iovec part = {(void *)bytes, length};
    return write_parts(file, &part, 1, offset);
}

EXPORTED ssize_t writev(int file, const struct iovec *parts, int count) { return write_parts(file, parts, count, -1); }
EXPORTED ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset) {
    return write_parts(file, parts, count, offset);
}
EXPORTED ssize_t pwrite64(int file, const void *bytes, size_t length, off_t offset) ALIAS(pwrite);
EXPORTED ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t offset) ALIAS(pwritev);

static int resize(int file, off_t length) {
    if (!is_below(file)) return syscall(SYS_ftruncate, file, length);
    pthread_mutex_lock(&lock);
    int failed = syscall(SYS_ftruncate, file, length), error = errno;
    if (!failed) record(TRUNCATE, file, length, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return failed;
}

EXPORTED int ftruncate(int file, off_t length) { return resize(file, length); }
EXPORTED int ftruncate64(int file, off_t length) ALIAS(ftruncate);

EXPORTED int fallocate(int file, int mode, off_t offset, off_t length) {
    if (!(mode & FALLOC_FL_KEEP_SIZE) || mode & ~FALLOC_FL_KEEP_SIZE) alarm_of(file, "fallocate"); /* else no change */
    return syscall(SYS_fallocate, file, mode, offset, length);
}
EXPORTED int fallocate64(int file, int mode, off_t offset, off_t length) ALIAS(fallocate);

EXPORTED int posix_fallocate(int file, off_t offset, off_t length) {
    alarm_of(file, "posix_fallocate");
    return syscall(SYS_fallocate, file, 0, offset, length) ? errno : 0;
}
EXPORTED int posix_fallocate64(int file, off_t offset, off_t length) ALIAS(posix_fallocate);

EXPORTED int truncate(const char *path, off_t length) {
    char full[PATH_MAX];
    if (resolve(AT_FDCWD, path, full)) record_alone(ALARM, -1, 0, "truncate");
    return syscall(SYS_truncate, path, length);
}
EXPORTED int truncate64(const char *path, off_t length) ALIAS(truncate);

EXPORTED int close(int file) {
    if (!is_below(file)) return file == log_file && file >= 0 ? 0 : syscall(SYS_close, file);
    pthread_mutex_lock(&lock);
    below[file] = 0;
    record(CLOSE, file, 0, NULL, 0);
    int failed = syscall(SYS_close, file), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return failed;
}

/* What was written before SYNC is durable from SYNCED on. */
static int sync_by(long number, int file) {
    if (!is_below(file)) return syscall(number, file);
    pthread_mutex_lock(&lock);
    uint64_t sync = ++syncs;
    record(SYNC, file, sync, NULL, 0);
    pthread_mutex_unlock(&lock);
    int failed = syscall(number, file), error = errno;
    if (!failed) record_alone(SYNCED, file, sync, "");
    errno = error;
    return failed;
}

EXPORTED int fsync(int file) { return sync_by(SYS_fsync, file); }
EXPORTED int fdatasync(int file) { return sync_by(SYS_fdatasync, file); }
/* sync_file_range and msync need no entry: the first promises nothing, the second is about MAPPED files. */

/* Names: `made` is what the call gave, 0 if it changed something. */
static int named(enum kind kind, const char *path, long made) {
    int error = errno;
    if (made == 0) record_text(kind, -1, 0, path);
    pthread_mutex_unlock(&lock);
    errno = error;
    return made;
}

static int two_names(enum kind kind, int base, const char *old, int other_base, const char *new, int flags) {
    long number = kind == RENAME ? SYS_renameat2 : SYS_linkat;
    char both[2 * PATH_MAX], target[PATH_MAX];
    int old_below = resolve(base, old, both), new_below = resolve(other_base, new, target);
    if (!old_below && !new_below) return syscall(number, base, old, other_base, new, flags);
    strcat(strcat(both, "\n"), target);
    pthread_mutex_lock(&lock);
    return named(old_below && new_below && !flags ? kind : ALARM, both,
                 syscall(number, base, old, other_base, new, flags));
}

EXPORTED int rename(const char *old, const char *new) { return two_names(RENAME, AT_FDCWD, old, AT_FDCWD, new, 0); }
EXPORTED int renameat(int base, const char *old, int other, const char *new) {
    return two_names(RENAME, base, old, other, new, 0);
}
EXPORTED int renameat2(int base, const char *old, int other, const char *new, unsigned int flags) {
    return two_names(RENAME, base, old, other, new, flags);
}
EXPORTED int link(const char *old, const char *new) { return two_names(LINK, AT_FDCWD, old, AT_FDCWD, new, 0); }
EXPORTED int linkat(int base, const char *old, int other, const char *new, int flags) {
    return two_names(LINK, base, old, other, new, flags);
}

EXPORTED int unlinkat(int base, const char *path, int flags) {
    char full[PATH_MAX];
    if (!resolve(base, path, full)) return syscall(SYS_unlinkat, base, path, flags);
    pthread_mutex_lock(&lock);
    return named(flags & AT_REMOVEDIR ? RMDIR : UNLINK, full, syscall(SYS_unlinkat, base, path, flags));
}
EXPORTED int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
EXPORTED int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

EXPORTED int mkdirat(int base, const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (!resolve(base, path, full)) return syscall(SYS_mkdirat, base, path, mode);
    pthread_mutex_lock(&lock);
    return named(MKDIR, full, syscall(SYS_mkdirat, base, path, mode));
}
EXPORTED int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

EXPORTED void *mmap(void *start, size_t length, int protection, int flags, int file, off_t offset) {
    void *place = (void *)syscall(SYS_mmap, start, length, protection, flags, file, offset);
    if (place != MAP_FAILED && is_below(file) && flags & MAP_SHARED && protection & PROT_WRITE) {
        record_alone(MAPPED, file, 0, "");
    }
    return place;
}
EXPORTED void *mmap64(void *start, size_t length, int protection, int flags, int file, off_t offset) ALIAS(mmap);

/* Ways around the record. */
EXPORTED int dup(int file) {
    alarm_of(file, "dup");
    return syscall(SYS_dup, file);
}
EXPORTED int dup3(int file, int other, int flags) {
    alarm_of(file, "dup3");
    alarm_of(other, "dup3");
    return syscall(SYS_dup3, file, other, flags);
}
EXPORTED int dup2(int file, int other) { return file == other ? file : dup3(file, other, 0); }
EXPORTED ssize_t copy_file_range(int from, off_t *at, int to, off_t *to_at, size_t length, unsigned int flags) {
    alarm_of(to, "copy_file_range");
    return syscall(SYS_copy_file_range, from, at, to, to_at, length, flags);
}
EXPORTED ssize_t sendfile(int to, int from, off_t *at, size_t length) {
    alarm_of(to, "sendfile");
    return syscall(SYS_sendfile, to, from, at, length);
}
EXPORTED ssize_t sendfile64(int to, int from, off_t *at, size_t length) ALIAS(sendfile);

/* For the program itself: a note between its changes. */
EXPORTED void power_mark(const char *text) {
    if (log_file >= 0) record_alone(MARK, -1, 0, text);
}

/* The end of the process at once, but with no call half recorded. */
EXPORTED void power_end(void) {
    pthread_mutex_lock(&lock);
    syscall(SYS_exit_group, 0);
}
