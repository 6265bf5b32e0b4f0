/* Runs one entry of a model on files, without any C library: so that nothing has to be built for a foreign machine but
 * this. Every buffer ends where a page ends, and behind it nothing may be touched; before it
 * lies less than a page that must stay as it is, and before that nothing may be touched either.
 *
 *     driver BATCH INPUT... OUTPUT...
 */
#include <stdint.h>

#include "edgewright_native.h"

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, MMAP = 9, MPROTECT = 10, EXIT = 231, OPENAT = 257 };
__asm__(".global _start\n_start:\nmov %rsp, %rdi\nand $-16, %rsp\ncall begin\n");
static long ask(long what, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "+a"(what) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return what;
}
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, MMAP = 222, MPROTECT = 226, EXIT = 94, OPENAT = 56 };
__asm__(".global _start\n_start:\nmov x0, sp\nand sp, x0, #-16\nbl begin\n");
static long ask(long what, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = what;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
enum { READ = 3, WRITE = 4, MMAP = 192, MPROTECT = 125, EXIT = 248, OPENAT = 322 };
__asm__(".global _start\n_start:\nmov r0, sp\nbic sp, sp, #15\nbl begin\n");
static long ask(long what, long a, long b, long c, long d, long e, long f) {
    register long r7 __asm__("r7") = what;
    register long r0 __asm__("r0") = a;
    register long r1 __asm__("r1") = b;
    register long r2 __asm__("r2") = c;
    register long r3 __asm__("r3") = d;
    register long r4 __asm__("r4") = e;
    register long r5 __asm__("r5") = f;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
#endif

enum { PAGE = 4096, HERE = -100, CREATE = 01101, PRIVATE_ANONYMOUS = 0x22, READ_WRITE = 3 };
enum { BEFORE = 0x5a, NOT_WRITTEN = -1 };


void *memcpy(void *restrict to, const void *restrict from, unsigned long count) {
    for (unsigned long i = 0; i < count; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int value, unsigned long count) {
    for (unsigned long i = 0; i < count; i++) ((volatile char *)to)[i] = (char)value;
    return to;
}

void *memmove(void *to, const void *from, unsigned long count) {
    volatile char *t = to;
    const char *f = from;
    if (t < f) for (unsigned long i = 0; i < count; i++) t[i] = f[i];
    else while (count--) t[count] = f[count];
    return to;
}

static void check(int good, int status) {
    if (!good) ask(EXIT, status, 0, 0, 0, 0, 0);
}

static char *memory(uint64_t bytes) {
    unsigned long room = (unsigned long)(bytes + PAGE - 1) / PAGE * PAGE;
    long start = ask(MMAP, 0, (long)(room + 2 * PAGE), READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
    check((unsigned long)start < -4095ul, 3);
    check(ask(MPROTECT, start, PAGE, 0, 0, 0, 0) == 0, 3);
    check(ask(MPROTECT, (long)((unsigned long)start + PAGE + room), PAGE, 0, 0, 0, 0) == 0, 3);
    char *first = (char *)start + PAGE, *data = first + room - bytes;
    memset(first, BEFORE, (unsigned long)(data - first));
    memset(data, NOT_WRITTEN, (unsigned long)bytes);
    return data;
}

static void check_before(const char *data) {
    for (const char *at = data; (unsigned long)at % PAGE;) check(*--at == BEFORE, 8);
}

static void transfer(long what, const char *path, char *data, uint64_t bytes) {
    long file = ask(OPENAT, HERE, (long)path, what == READ ? 0 : CREATE, 0600, 0, 0);
    check(file >= 0, 4);
    while (bytes) {
        long done = ask(what, file, (long)data, (long)bytes, 0, 0, 0);
        check(done > 0, 5);
        data += done;
        bytes -= (uint64_t)done;
    }
}

__attribute__((used, noreturn)) void begin(long *stack) {
    char **arguments = (char **)(stack + 1);
    const edgewright_model *model = edgewright_describe();
    uint32_t batch = 0, index = 0;
    for (const char *digit = arguments[1]; *digit; digit++) batch = batch * 10 + (uint32_t)(*digit - '0');
    while (batch && model->entries[index].batch != batch) check(++index < model->entry_count, 6);
    const edgewright_entry *entry = &model->entries[index];
    const void *inputs[256];
    void *outputs[256];
    check(stack[0] == (long)(2 + model->input_count + model->output_count), 7);
    for (uint32_t i = 0; i < model->input_count; i++) {
        char *data = memory(entry->inputs[i].size_bytes);
        transfer(READ, arguments[2 + i], data, entry->inputs[i].size_bytes);
        inputs[i] = data;
    }
    for (uint32_t i = 0; i < model->output_count; i++) outputs[i] = memory(entry->outputs[i].size_bytes);
    char *arena = memory(entry->arena_bytes);
    entry->run(inputs, outputs, arena);
    check_before(arena);
    for (uint32_t i = 0; i < model->input_count; i++) check_before(inputs[i]);
    for (uint32_t i = 0; i < model->output_count; i++) check_before(outputs[i]);
    for (uint32_t i = 0; i < model->output_count; i++)
        transfer(WRITE, arguments[2 + model->input_count + i], outputs[i], entry->outputs[i].size_bytes);
    for (;;) ask(EXIT, 0, 0, 0, 0, 0, 0);
}
