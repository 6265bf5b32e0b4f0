/* Calls `run_part` of every entry by real threads, again and again, and compares with `run`; for ThreadSanitizer.
 *
 *     threads PARTS CALLS
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgewright_native.h"

typedef struct {
    const edgewright_entry *entry;
    const void *const *in;
    void *const *out;
    void *arena;
    uint32_t part, parts;
} share;

static void *run_share(void *given) {
    const share *s = given;
    s->entry->run_part(s->in, s->out, s->arena, s->part, s->parts);
    return 0;
}

static char *memory(uint64_t bytes) {
    char *found = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    memset(found, 0xab, bytes);
    return found;
}

static uint32_t state = 1;

static void fill(const edgewright_tensor *port, char *data) {
    int is_float = !strcmp(port->datatype, "FP32");
    for (uint64_t i = 0; i < port->size_bytes; i += is_float ? 4 : 1) {
        state = state * 1664525u + 1013904223u;
        if (is_float) *(float *)(data + i) = (float)(int32_t)state / 1e9f;
        else data[i] = (char)(state >> 24);
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    uint32_t parts = (uint32_t)atoi(arguments[1]);
    const edgewright_model *model = edgewright_describe();
    int differing = 0; /* calls go on after one: the sanitizer may have more to say */
    for (uint32_t e = 0; e < model->entry_count; e++) {
        const edgewright_entry *entry = &model->entries[e];
        char *in[16], *expected[16], *found[16];
        for (uint32_t i = 0; i < model->input_count; i++) fill(&entry->inputs[i], in[i] = memory(entry->inputs[i].size_bytes));
        for (uint32_t i = 0; i < model->output_count; i++) {
            expected[i] = memory(entry->outputs[i].size_bytes);
            found[i] = memory(entry->outputs[i].size_bytes);
        }
        entry->run((const void *const *)in, (void *const *)expected, memory(entry->arena_bytes));
        char *arena = memory(entry->part_arena_bytes);
        for (int call = 0; call < atoi(arguments[2]); call++) {
            pthread_t threads[64];
            share shares[64];
            memset(arena, 0, entry->arena_alignment);
            for (uint32_t part = 0; part < parts; part++) {
                shares[part] = (share){entry, (const void *const *)in, (void *const *)found, arena, part, parts};
                pthread_create(&threads[part], 0, run_share, &shares[part]);
            }
            for (uint32_t part = 0; part < parts; part++) pthread_join(threads[part], 0);
            for (uint32_t i = 0; i < model->output_count; i++)
                if (memcmp(found[i], expected[i], entry->outputs[i].size_bytes)) {
                    if (!differing) fprintf(stderr, "entry %u, output %u differs\n", e, i);
                    differing = 1;
                }
        }
    }
    return differing ? 3 : 0;
}
