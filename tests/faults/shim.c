// Stands between a program and libc for the files under FAULT_DIRS ("dir:dir"): makes one call fail, and writes down
// what was done to the disk. Compiled by shim.ts, loaded with LD_PRELOAD.
//
// FAULT_SPEC "call:n:how:errno": the n-th call of that name (1 is the first), counted over all threads.
//   instead  it fails and does nothing      after  it is done, and fails all the same
//   short    a write takes half             lie    a write says it is done, and nothing was
//   from     as "instead", this one and all that follow
//   die      a write takes half, and the program is killed
// FAULT_ARM a file: calls count from the moment it is there; without it, from the beginning.
// FAULT_JOURNAL a file: a line for each call that succeeded, with the CLOCK_MONOTONIC of its begin and end.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum how { NOTHING, INSTEAD, AFTER, SHORT, LIE, DIE };

static char dirs[4096];
static char spec_call[32], spec_how[16];
static long spec_n;
static int spec_errno;
static long seen;
static char arm[4096];
static int armed;
static int journal = -1;
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

// A call and its line in the journal are one: nothing is done that is not written down, also when the program dies.
static void hold(void) {
  if (journal >= 0) pthread_mutex_lock(&lock);
}

static long let_go(long result) {
  int error = errno;
  if (journal >= 0) pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

__attribute__((constructor)) static void begin(void) {
  const char *text = getenv("FAULT_DIRS");
  if (text) snprintf(dirs, sizeof dirs, "%s", text);
  text = getenv("FAULT_SPEC");
  if (text && sscanf(text, "%31[^:]:%ld:%15[^:]:%d", spec_call, &spec_n, spec_how, &spec_errno) != 4) _exit(97);
  text = getenv("FAULT_ARM");
  if (text) snprintf(arm, sizeof arm, "%s", text);
  armed = arm[0] == 0;
  text = getenv("FAULT_JOURNAL");
  if (text) journal = syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  unsetenv("LD_PRELOAD");  // what the program starts is not its disk
}

static long now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000000L + at.tv_nsec;
}

static int ours(const char *path) {
  for (const char *dir = dirs; *dir;) {
    size_t length = strcspn(dir, ":");
    if (length && strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == 0)) return 1;
    dir += length + (dir[length] == ':');
  }
  return 0;
}

static int path_of(int fd, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return ours(path);
}

static void note(long begun, const char *what, const char *path, long a, long b, const char *other, const void *data, size_t size);

static enum how decide(const char *call) {
  if (strcmp(call, spec_call) != 0) return NOTHING;
  if (!armed && syscall(SYS_faccessat, AT_FDCWD, arm, F_OK) == 0) armed = 1;
  if (!armed) return NOTHING;
  long n = __sync_add_and_fetch(&seen, 1);
  int from = strcmp(spec_how, "from") == 0;
  if (from ? n < spec_n : n != spec_n) return NOTHING;
  note(now(), "fault", spec_how, n, spec_errno, "", "", 0);
  if (from || strcmp(spec_how, "instead") == 0) return INSTEAD;
  if (strcmp(spec_how, "after") == 0) return AFTER;
  if (strcmp(spec_how, "short") == 0) return SHORT;
  return strcmp(spec_how, "die") == 0 ? DIE : LIE;
}

// One line: begin end what path number number rest. The data of a write is in hex.
static void note(long begun, const char *what, const char *path, long a, long b, const char *other, const void *data, size_t size) {
  if (journal < 0) return;
  static const char digits[] = "0123456789abcdef";
  char *line = malloc(9000 + 2 * size);
  if (!line) abort();
  int at = sprintf(line, "%ld %ld %s %s %ld %ld %s ", begun, now(), what, path, a, b, *other ? other : "-");
  for (size_t i = 0; i < size; i++) {
    line[at++] = digits[((const unsigned char *)data)[i] >> 4];
    line[at++] = digits[((const unsigned char *)data)[i] & 15];
  }
  line[at++] = '\n';
  if (syscall(SYS_write, journal, line, at) != at) abort();
  free(line);
}

static int failing(void) {
  errno = spec_errno;
  return -1;
}

static int open_ours(const char *path, int flags, int mode) {
  enum how how = decide("open");
  if (how == INSTEAD) return failing();
  struct stat before;
  long begun = now();
  int isNew = (flags & O_CREAT) && lstat(path, &before) != 0;
  int fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (fd < 0) return fd;
  note(begun, isNew ? "create" : "open", path, 0, 0, "", "", 0);
  if (how != AFTER) return fd;
  close(fd);
  return failing();
}

static int opened(const char *path, int flags, int mode) {
  if (path[0] != '/' || !ours(path)) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  hold();
  return let_go(open_ours(path, flags, mode));
}

int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
  va_end(rest);
  return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
  va_end(rest);
  return opened(path, flags | O_LARGEFILE, mode);
}

static ssize_t written(int fd, const void *data, size_t size, off64_t offset) {
  return offset < 0 ? syscall(SYS_write, fd, data, size) : syscall(SYS_pwrite64, fd, data, size, offset);
}

static ssize_t put_ours(int fd, const char *path, const void *data, size_t size, off64_t offset) {
  enum how how = decide("write");
  if (how == INSTEAD) return failing();
  if (how == LIE) return size;
  long begun = now();
  int flags = fcntl(fd, F_GETFL);
  struct stat before;
  fstat(fd, &before);
  off64_t place = offset >= 0 ? offset : flags & O_APPEND ? before.st_size : lseek(fd, 0, SEEK_CUR);
  ssize_t done = written(fd, data, (how == SHORT || how == DIE) && size > 1 ? size / 2 : size, offset);
  if (done < 0) return done;
  note(begun, flags & O_DSYNC ? "write-synced" : "write", path, place, done, "", data, done);
  if (how == DIE) kill(getpid(), SIGKILL);
  return how == AFTER ? failing() : done;
}

static ssize_t put(int fd, const void *data, size_t size, off64_t offset) {
  char path[4096];
  if (dirs[0] == 0 || !path_of(fd, path, sizeof path)) return written(fd, data, size, offset);
  hold();
  return let_go(put_ours(fd, path, data, size, offset));
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, -1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return put(fd, data, size, at); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return put(fd, data, size, at); }

static int sync_ours(int fd, const char *path, const char *call, int number) {
  enum how how = decide(call);
  if (how == INSTEAD) return failing();
  if (how == LIE) return 0;
  long begun = now();
  int done = syscall(number, fd);
  if (done != 0) return done;
  note(begun, "sync", path, 0, 0, "", "", 0);
  return how == AFTER ? failing() : done;
}

static int synced(int fd, const char *call, int number) {
  char path[4096];
  if (!path_of(fd, path, sizeof path)) return syscall(number, fd);
  hold();
  return let_go(sync_ours(fd, path, call, number));
}

int fsync(int fd) { return synced(fd, "fsync", SYS_fsync); }
int fdatasync(int fd) { return synced(fd, "fdatasync", SYS_fdatasync); }

static int cut_ours(int fd, const char *path, off64_t size) {
  enum how how = decide("ftruncate");
  if (how == INSTEAD) return failing();
  long begun = now();
  int done = syscall(SYS_ftruncate, fd, size);
  if (done != 0) return done;
  note(begun, "truncate", path, size, 0, "", "", 0);
  return how == AFTER ? failing() : done;
}

int ftruncate64(int fd, off64_t size) {
  char path[4096];
  if (!path_of(fd, path, sizeof path)) return syscall(SYS_ftruncate, fd, size);
  hold();
  return let_go(cut_ours(fd, path, size));
}

// Kernels of other machines have only the calls that end in "at".
static int renamed(const char *from, const char *to) { return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0); }
static int linked(const char *from, const char *to) { return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0); }
static int unlinked(const char *path, const char *none) { return (void)none, syscall(SYS_unlinkat, AT_FDCWD, path, 0); }

static int name_ours(const char *call, int (*act)(const char *, const char *), const char *from, const char *to) {
  enum how how = decide(call);
  if (how == INSTEAD) return failing();
  long begun = now();
  int done = act(from, to);
  if (done != 0) return done;
  note(begun, call, from, 0, 0, to, "", 0);
  return how == AFTER ? failing() : done;
}

static int named(const char *call, int (*act)(const char *, const char *), const char *from, const char *to) {
  if (!ours(*to ? to : from)) return act(from, to);
  hold();
  return let_go(name_ours(call, act, from, to));
}

int rename(const char *from, const char *to) { return named("rename", renamed, from, to); }
int link(const char *from, const char *to) { return named("link", linked, from, to); }
int unlink(const char *path) { return named("unlink", unlinked, path, ""); }

int remove(const char *path) {
  struct stat what;
  if (lstat(path, &what) != 0) return -1;
  return S_ISDIR(what.st_mode) ? rmdir(path) : unlink(path);
}

static int make_ours(const char *path, mode_t mode) {
  enum how how = decide("mkdir");
  if (how == INSTEAD) return failing();
  long begun = now();
  int done = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  if (done != 0) return done;
  note(begun, "mkdir", path, 0, 0, "", "", 0);
  return how == AFTER ? failing() : done;
}

static int hold_ours(int fd, const char *path, unsigned long request, void *value) {
  enum how how = decide("ioctl");
  if (how == INSTEAD) return failing();
  long begun = now();
  int done = syscall(SYS_ioctl, fd, request, value);
  if (done != 0) return done;
  note(begun, "ioctl", path, 0, 0, "", "", 0);
  return how == AFTER ? failing() : done;
}

int ioctl(int fd, unsigned long request, ...) {
  char path[4096];
  va_list rest;
  va_start(rest, request);
  void *value = va_arg(rest, void *);
  va_end(rest);
  if (dirs[0] == 0 || !path_of(fd, path, sizeof path)) return syscall(SYS_ioctl, fd, request, value);
  hold();
  return let_go(hold_ours(fd, path, request, value));
}

int mkdir(const char *path, mode_t mode) {
  if (!ours(path)) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  hold();
  return let_go(make_ours(path, mode));
}
