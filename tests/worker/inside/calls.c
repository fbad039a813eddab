// Run inside the sandbox alone. Makes each call and says its errno (0 where it succeeded), one "name errno" a line.
// Arguments: "numbers N..." for calls by number with arguments that do no harm, or nothing for the rest.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long result) {
  printf("%s %d\n", name, result < 0 ? errno : 0);
  fflush(stdout);
}

static long fork_with(unsigned long flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, 0);
  return pid;
}

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "numbers") == 0) {
    for (int at = 2; at < argc; at++) {
      errno = 0;
      // -1 is no descriptor, no address and no id
      say(argv[at], syscall(atol(argv[at]), -1L, -1L, -1L, -1L, -1L, -1L));
    }
    return 0;
  }
  if (argc > 1 && strcmp(argv[1], "int80") == 0) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory"); // getpid of i386
    printf("survived %ld\n", result);
#endif
    return 0;
  }
  say("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
  say("unshare-user", unshare(CLONE_NEWUSER));
  say("unshare-mount", unshare(CLONE_NEWNS));
  say("clone-plain", fork_with(0));
  say("clone-user", fork_with(CLONE_NEWUSER));
  say("clone-pid", fork_with(CLONE_NEWPID));
  say("clone3", syscall(435, -1L, 0L));
  say("socket-unix", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  say("socket-inet", socket(AF_INET, SOCK_STREAM, 0));
  say("socket-inet6", socket(AF_INET6, SOCK_DGRAM, 0));
  say("socket-raw", socket(AF_INET, SOCK_RAW, 1));
  say("socket-sctp", socket(AF_INET, SOCK_STREAM, 132));
  say("socket-netlink", socket(AF_NETLINK, SOCK_RAW, 0));
  say("socket-packet", socket(AF_PACKET, SOCK_RAW, 0));
  say("socket-alg", socket(38, SOCK_SEQPACKET, 0));
  say("socket-vsock", socket(40, SOCK_STREAM, 0));
  char key = 'x';
  say("tiocsti", ioctl(0, TIOCSTI, &key)); // of a pipe: without a filter it is ENOTTY
  say("tiocsti-high", ioctl(0, 0x100000000UL | TIOCSTI, &key));
  say("tioclinux", ioctl(0, TIOCLINUX, &key));
  say("personality-ask", personality(0xffffffff));
  say("personality-fixed", personality(ADDR_NO_RANDOMIZE));
  say("unknown", syscall(5000));
#ifdef __x86_64__
  say("x32", syscall(0x40000000 | 39));
#endif
  say("setuid-root", setuid(0));
  say("kill-everyone", kill(-1, 0));
  say("dumpable", prctl(PR_SET_DUMPABLE, 1));
  return 0;
}
