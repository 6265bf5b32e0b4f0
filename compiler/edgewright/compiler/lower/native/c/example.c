/* Runs a compiled model on raw files, by nothing but its interface (edgewright_native.h).
 *
 *     example                              what the model is
 *     example INPUT...                     prints the outputs; each file holds one input as it lies in memory, - is stdin
 *     example INPUT... -o OUTPUT...        writes each output to a file instead
 *     -b BATCH                             the entry for this many samples; the first one otherwise
 *     -n COUNT                             runs so often, and says on stderr how long the fastest took
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgewright_native.h"

#ifndef EDGEWRIGHT_DESCRIBE
#define EDGEWRIGHT_DESCRIBE edgewright_describe
#endif
const edgewright_model *EDGEWRIGHT_DESCRIBE(void);

static void stop(const char *what, const char *which) {
    fprintf(stderr, "example: %s: %s\n", which, what);
    exit(1);
}

static void print_port(const char *role, const edgewright_tensor *port) {
    printf("%s %s %s", role, port->name, port->datatype);
    for (uint32_t axis = 0; axis < port->rank; axis++) printf("%s%lld", axis ? "x" : " ", (long long)port->shape[axis]);
    printf("\n");
}

static void print_model(const edgewright_model *model) {
    printf("model %s\nneeds %s\ncompiled by %s\n", model->model, *model->isa ? model->isa : "nothing special", model->toolchain);
    for (uint32_t i = 0; i < model->entry_count; i++) {
        const edgewright_entry *entry = &model->entries[i];
        printf("batch %u, arena %llu bytes\n", entry->batch, (unsigned long long)entry->arena_bytes);
        for (uint32_t j = 0; j < model->input_count; j++) print_port("  input", &entry->inputs[j]);
        for (uint32_t j = 0; j < model->output_count; j++) print_port("  output", &entry->outputs[j]);
    }
}

static void print_values(const edgewright_tensor *port, const void *data) {
    int64_t count = 1;
    for (uint32_t axis = 0; axis < port->rank; axis++) count *= port->shape[axis];
    print_port("output", port);
    for (int64_t i = 0; i < count; i++) {
        const char *type = port->datatype;
        if (!strcmp(type, "FP32")) printf("%.9g\n", (double)((const float *)data)[i]);
        else if (!strcmp(type, "INT8")) printf("%d\n", ((const int8_t *)data)[i]);
        else if (!strcmp(type, "UINT8") || !strcmp(type, "BOOL")) printf("%d\n", ((const uint8_t *)data)[i]);
        else if (!strcmp(type, "INT16")) printf("%d\n", ((const int16_t *)data)[i]);
        else if (!strcmp(type, "INT32")) printf("%ld\n", (long)((const int32_t *)data)[i]);
        else if (!strcmp(type, "INT64")) printf("%lld\n", (long long)((const int64_t *)data)[i]);
        else printf("0x%04x\n", ((const uint16_t *)data)[i]);
    }
}

static void *memory(uint64_t bytes) {
    void *found = malloc(bytes ? (size_t)bytes : 1);
    if (!found) stop("there is not enough memory", "buffers");
    return found;
}

static void read_file(const char *path, void *data, uint64_t bytes) {
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!file) stop("cannot be opened", path);
    if (fread(data, 1, (size_t)bytes, file) != bytes) stop("is shorter than the input", path);
    if (file != stdin) {
        if (fgetc(file) != EOF) stop("is longer than the input", path);
        fclose(file);
    }
}

static void write_file(const char *path, const void *data, uint64_t bytes) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, (size_t)bytes, file) != bytes || fclose(file)) stop("cannot be written", path);
}

static double now_us(void) {
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static const edgewright_entry *entry_for(const edgewright_model *model, unsigned long batch) {
    for (uint32_t i = 0; i < model->entry_count; i++) {
        if (!batch || model->entries[i].batch == batch) return &model->entries[i];
    }
    stop("the model has no entry for it", "-b");
    return 0;
}

int main(int count, char **arguments) {
    const edgewright_model *model = EDGEWRIGHT_DESCRIBE();
    const char **in_paths = memory((uint64_t)count * sizeof(char *));
    const char **out_paths = memory((uint64_t)count * sizeof(char *));
    uint32_t in_count = 0, out_count = 0;
    unsigned long batch = 0, repeats = 0;
    int to_files = 0;
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "-o")) to_files = 1;
        else if (!strcmp(arguments[i], "-b") && i + 1 < count) batch = strtoul(arguments[++i], 0, 10);
        else if (!strcmp(arguments[i], "-n") && i + 1 < count) repeats = strtoul(arguments[++i], 0, 10);
        else if (to_files) out_paths[out_count++] = arguments[i];
        else in_paths[in_count++] = arguments[i];
    }
    if (!in_count && model->input_count) {
        print_model(model);
        return 0;
    }
    if (in_count != model->input_count) stop("wrong number of input files", "arguments");
    if (to_files && out_count != model->output_count) stop("wrong number of output files", "arguments");

    const edgewright_entry *entry = entry_for(model, batch);
    const void **inputs = memory(model->input_count * sizeof(void *));
    void **outputs = memory(model->output_count * sizeof(void *));
    for (uint32_t i = 0; i < model->input_count; i++) {
        void *data = memory(entry->inputs[i].size_bytes);
        read_file(in_paths[i], data, entry->inputs[i].size_bytes);
        inputs[i] = data;
    }
    for (uint32_t i = 0; i < model->output_count; i++) outputs[i] = memory(entry->outputs[i].size_bytes);
    /* An arena of exactly the size that was asked for, behind what it takes to align it. */
    char *block = memory(entry->arena_bytes + entry->arena_alignment);
    uintptr_t aligned = ((uintptr_t)block + entry->arena_alignment - 1) & ~(uintptr_t)(entry->arena_alignment - 1);
    void *arena = (void *)aligned;

    entry->run(inputs, outputs, arena);

    double best_us = 0;
    for (unsigned long i = 0; i < repeats; i++) {
        double start_us = now_us();
        entry->run(inputs, outputs, arena);
        double spent_us = now_us() - start_us;
        if (!i || spent_us < best_us) best_us = spent_us;
    }
    if (repeats) fprintf(stderr, "%.1f us\n", best_us);
    for (uint32_t i = 0; i < model->output_count; i++) {
        if (to_files) write_file(out_paths[i], outputs[i], entry->outputs[i].size_bytes);
        else print_values(&entry->outputs[i], outputs[i]);
        free(outputs[i]);
    }
    for (uint32_t i = 0; i < model->input_count; i++) free((void *)inputs[i]);
    free(block);
    free(inputs);
    free(outputs);
    free(in_paths);
    free(out_paths);
    return 0;
}
