/*
 * A PKCS#11 module around another one (SHIM_MODULE), for what SoftHSM2 does not do: it locks its PIN after wrong ones,
 * answers late, takes much of the stack, gives errors, and makes keys that can be extracted. The numbers below are
 * set from outside. CK_ULONG is unsigned long; only what is changed is declared.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef unsigned long ulong_t;
typedef struct { ulong_t type; void *value; ulong_t length; } attribute_t;
typedef struct { unsigned char version[2]; void *functions[68]; } list_t;

#define EXPORT __attribute__((visibility("default")))

/* In a file that is mapped (SHIM_STATE), so that another process can set them. */
static volatile long *dials;
#define shim_logins dials[0]
#define shim_tries dials[1]
#define shim_delay_ms dials[2]
#define shim_stack_bytes dials[3]
#define shim_encrypt_answer dials[4]
#define shim_decrypt_answer dials[5]
#define shim_decrypt_after dials[6]
#define shim_extractable dials[7]
#define shim_destroyed dials[8]
#define shim_login_ms dials[9]
#define shim_logout_ms dials[10]
#define shim_close_ms dials[11]
#define shim_closed dials[12]
#define shim_crash dials[13]
#define DIALS 14

static list_t list;
static list_t *real;

static void rest(long ms) {
  struct timespec length = {ms / 1000, (ms % 1000) * 1000000};
  if (ms > 0) nanosleep(&length, NULL);
}

static ulong_t token_info(ulong_t slot, unsigned char *info) {
  ulong_t answer = ((ulong_t (*)(ulong_t, void *))real->functions[6])(slot, info);
  ulong_t flags;
  memcpy(&flags, info + 96, 8);
  flags &= ~0x70000ul;
  if (shim_tries < 3) flags |= 0x10000;
  if (shim_tries == 1) flags |= 0x20000;
  if (shim_tries == 0) flags |= 0x40000;
  memcpy(info + 96, &flags, 8);
  return answer;
}

static ulong_t login(ulong_t session, ulong_t user, void *pin, ulong_t length) {
  shim_logins++;
  rest(shim_login_ms);
  if (shim_tries == 0) return 0xa4;
  ulong_t answer = ((ulong_t (*)(ulong_t, ulong_t, void *, ulong_t))real->functions[18])(session, user, pin, length);
  if (answer == 0xa0) shim_tries--;
  if (answer == 0) shim_tries = 3;
  return answer;
}

static ulong_t logout(ulong_t session) {
  rest(shim_logout_ms);
  return ((ulong_t (*)(ulong_t))real->functions[19])(session);
}

static ulong_t close_session(ulong_t session) {
  rest(shim_close_ms);
  shim_closed++;
  return ((ulong_t (*)(ulong_t))real->functions[13])(session);
}

static ulong_t destroy_object(ulong_t session, ulong_t object) {
  shim_destroyed++;
  return ((ulong_t (*)(ulong_t, ulong_t))real->functions[22])(session, object);
}

static ulong_t encrypt(ulong_t session, void *data, ulong_t length, void *out, ulong_t *room) {
  if (shim_crash) abort();
  rest(shim_delay_ms);
  if (shim_stack_bytes > 0) {
    volatile char *taken = alloca((size_t)shim_stack_bytes);
    for (long at = 0; at < shim_stack_bytes; at += 64) taken[at] = 1;
  }
  ulong_t answer =
      ((ulong_t (*)(ulong_t, void *, ulong_t, void *, ulong_t *))real->functions[30])(session, data, length, out, room);
  return shim_encrypt_answer ? (ulong_t)shim_encrypt_answer : answer;
}

static ulong_t decrypt(ulong_t session, void *data, ulong_t length, void *out, ulong_t *room) {
  ulong_t answer =
      ((ulong_t (*)(ulong_t, void *, ulong_t, void *, ulong_t *))real->functions[34])(session, data, length, out, room);
  if (shim_decrypt_after > 0) {
    shim_decrypt_after--;
    return answer;
  }
  return shim_decrypt_answer ? (ulong_t)shim_decrypt_answer : answer;
}

static ulong_t generate_key(ulong_t session, void *mechanism, attribute_t *wanted, ulong_t count, ulong_t *key) {
  static unsigned char yes = 1, no = 0;
  attribute_t copy[32];
  if (count > 32) return 0x5;
  memcpy(copy, wanted, count * sizeof *wanted);
  for (ulong_t at = 0; shim_extractable && at < count; at++) {
    if (copy[at].type == 0x103) copy[at].value = &no;
    if (copy[at].type == 0x162) copy[at].value = &yes;
  }
  return ((ulong_t (*)(ulong_t, void *, attribute_t *, ulong_t, ulong_t *))real->functions[58])(
      session, mechanism, copy, count, key);
}

EXPORT ulong_t C_GetFunctionList(list_t **out) {
  if (real == NULL) {
    const char *path = getenv("SHIM_MODULE");
    void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ulong_t (*get)(list_t **) = library == NULL ? NULL : (ulong_t (*)(list_t **))dlsym(library, "C_GetFunctionList");
    const char *state = getenv("SHIM_STATE");
    int fd = state == NULL ? -1 : open(state, O_RDWR | O_CLOEXEC);
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, DIALS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (get == NULL || mapped == MAP_FAILED || get(&real) != 0) return 0x5;
    dials = mapped;
    list = *real;
    list.functions[6] = (void *)token_info;
    list.functions[13] = (void *)close_session;
    list.functions[18] = (void *)login;
    list.functions[19] = (void *)logout;
    list.functions[22] = (void *)destroy_object;
    list.functions[30] = (void *)encrypt;
    list.functions[34] = (void *)decrypt;
    list.functions[58] = (void *)generate_key;
  }
  *out = &list;
  return 0;
}
