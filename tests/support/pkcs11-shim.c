/*
 * A PKCS#11 module around another one (SHIM_MODULE), for what SoftHSM2 does not do: it locks its PIN after wrong ones,
 * answers late, takes much of the stack, gives errors, and makes keys that can be extracted. The numbers below are
 * set from outside. CK_ULONG is unsigned long; only what is changed is declared.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long ulong_t;
typedef struct { ulong_t type; void *value; ulong_t length; } attribute_t;
typedef struct { unsigned char version[2]; void *functions[68]; } list_t;

#define EXPORT __attribute__((visibility("default")))

EXPORT long shim_logins = 0;
EXPORT long shim_tries = 3;
EXPORT long shim_delay_ms = 0;
EXPORT long shim_stack_bytes = 0;
EXPORT long shim_encrypt_answer = 0;
EXPORT long shim_decrypt_answer = 0;
EXPORT long shim_decrypt_after = 0;
EXPORT long shim_extractable = 0;
EXPORT long shim_destroyed = 0;

static list_t list;
static list_t *real;

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
  if (shim_tries == 0) return 0xa4;
  ulong_t answer = ((ulong_t (*)(ulong_t, ulong_t, void *, ulong_t))real->functions[18])(session, user, pin, length);
  if (answer == 0xa0) shim_tries--;
  if (answer == 0) shim_tries = 3;
  return answer;
}

static ulong_t destroy_object(ulong_t session, ulong_t object) {
  shim_destroyed++;
  return ((ulong_t (*)(ulong_t, ulong_t))real->functions[22])(session, object);
}

static ulong_t encrypt(ulong_t session, void *data, ulong_t length, void *out, ulong_t *room) {
  if (shim_delay_ms > 0) {
    struct timespec rest = {shim_delay_ms / 1000, (shim_delay_ms % 1000) * 1000000};
    nanosleep(&rest, NULL);
  }
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
    if (get == NULL || get(&real) != 0) return 0x5;
    list = *real;
    list.functions[6] = (void *)token_info;
    list.functions[18] = (void *)login;
    list.functions[22] = (void *)destroy_object;
    list.functions[30] = (void *)encrypt;
    list.functions[34] = (void *)decrypt;
    list.functions[58] = (void *)generate_key;
  }
  *out = &list;
  return 0;
}
