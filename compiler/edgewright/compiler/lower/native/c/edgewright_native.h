/* The interface of a compiled model; docs/formats/native.md explains it.
 *
 * Everything is constant data but `run`, which keeps nothing between calls, allocates nothing and cannot fail: it may
 * run in any number of threads at one time, each with an arena of its own.
 */
#ifndef EDGEWRIGHT_NATIVE_H
#define EDGEWRIGHT_NATIVE_H

#include <stdint.h>

/* Changes when a struct or the meaning of a field does. Reserved fields are 0, and whoever reads ABI 1 ignores them. */
#define EDGEWRIGHT_NATIVE_ABI 1

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name;
    const char *datatype; /* as in the V2 protocol: "FP32", "INT8", ... */
    uint32_t rank;
    uint32_t reserved;
    const int64_t *shape; /* row-major, the batch of the entry included; never null */
    uint64_t size_bytes;
} edgewright_tensor;

typedef struct {
    uint32_t batch;           /* samples per call; 1 where the model has no batch axis */
    uint32_t arena_alignment; /* a power of two */
    uint64_t arena_bytes;     /* 0: the arena may be null */
    const edgewright_tensor *inputs;
    const edgewright_tensor *outputs;
    /* Pointers to inputs, to outputs (each aligned as one element of it is, none may overlap), and to an aligned arena. */
    void (*run)(const void *const *inputs, void *const *outputs, void *arena);
    /* Null, or one call by several threads: each of `parts` threads calls it with the same pointers and a `part` of its
     * own, all at one time. The first `arena_alignment` bytes of the arena are zero when the first one begins; 0xFF in
     * all of them lets threads go that wait for one that does not come. The outputs are those of `run`, bit by bit. */
    void (*run_part)(const void *const *inputs, void *const *outputs, void *arena, uint32_t part, uint32_t parts);
    uint64_t part_arena_bytes; /* of a call in parts; 0 where run_part is null */
    uint32_t max_parts;        /* more threads find no work; 0 where run_part is null */
    uint32_t reserved;
} edgewright_entry;

typedef struct {
    uint32_t abi; /* EDGEWRIGHT_NATIVE_ABI of the compiler */
    uint32_t input_count;
    uint32_t output_count;
    uint32_t entry_count; /* one entry per batch size, ascending */
    const char *model;
    const char *isa;       /* features the processor must have, as in /proc/cpuinfo, separated by spaces */
    const char *toolchain; /* what compiled it */
    const edgewright_entry *entries;
    const void *reserved[4];
} edgewright_model;

const edgewright_model *edgewright_describe(void);

#ifdef __cplusplus
}
#endif
#endif
