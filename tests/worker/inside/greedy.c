// Run inside the sandbox alone. "forks N": starts children until it cannot, N at most; "memory MIB": takes and touches
// memory until it cannot, MIB at most. Says how much it got.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  long most = atol(argv[2]), got = 0;
  if (strcmp(argv[1], "forks") == 0) {
    for (; got < most; got++) {
      pid_t pid = fork();
      if (pid < 0) break;
      if (pid == 0) {
        pause();
        _exit(0);
      }
    }
  } else {
    for (; got < most; got++) {
      char *piece = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (piece == MAP_FAILED) break;
      memset(piece, 1, 1 << 20);
    }
  }
  printf("got %ld errno %d\n", got, got < most ? errno : 0);
  fflush(stdout);
  return 0;
}
