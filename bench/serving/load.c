/* The load of bench/serve.py: one thread, one core, HTTP/1.1 or gRPC over HTTP/2, closed or open loop.
 *
 *   load http|grpc PORT REQUEST_FILE CONNECTIONS SECONDS RATE
 *
 * REQUEST_FILE: for http the complete bytes of one request; for grpc the path in the first line, then the bytes of one
 * request message. RATE 0: closed loop, each connection sends the next request when it has its answer. RATE > 0: open
 * loop; request i is due at i / RATE whatever the server does, and its latency counts from then (no coordinated
 * omission). A request that finds every connection busy waits for the first free one; when it has waited `PATIENCE_S`
 * it is given up and counted as unsent.
 *
 * Prints one JSON object. Latencies are exact (sorted), in microseconds, by kind of answer: `ok` (200, or a gRPC answer
 * with a message) and `shed` (503). `from_sent` counts from the moment the bytes went out, `from_due` from when they
 * were due. The first tenth of the time is warm-up: what is answered or given up in it counts nowhere.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 21, WINDOW = 1 << 30 };
static const double PATIENCE_S = 0.25;

typedef struct {
    int fd, busy, writing;
    size_t sent, have;
    double due, begun;
    long need;      /* bytes of the whole answer once its head is there, else 0 */
    int status;
    uint32_t stream; /* gRPC */
    int got_message;
    uint8_t *in;
} Connection;

typedef struct { double *values; size_t count, room; } Times;

static int grpc, port, epoll_fd, connection_count;
static uint8_t *request; static size_t request_size;
static uint8_t *frames; static size_t frames_size, stream_places[4096], stream_place_count;
static Connection *connections;
static Times ok_sent, ok_due, shed_sent, shed_due;
static long errors, unsent, others, reconnects;
static double start_s, count_from_s, end_s;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static void die(const char *what) { perror(what); exit(1); }

static void note(Times *times, double seconds) {
    if (times->count == times->room) {
        times->room = times->room ? times->room * 2 : 1 << 16;
        if (!(times->values = realloc(times->values, times->room * sizeof(double)))) die("memory");
    }
    times->values[times->count++] = seconds * 1e6;
}

static void put_frame(uint8_t type, uint8_t flags, const uint8_t *body, size_t size) {
    uint8_t *at = frames + frames_size;
    at[0] = size >> 16; at[1] = size >> 8; at[2] = size; at[3] = type; at[4] = flags;
    stream_places[stream_place_count++] = frames_size + 5;
    memcpy(at + 9, body, size);
    frames_size += 9 + size;
}

static size_t put_field(uint8_t *at, const char *name, const char *value) {
    size_t n = strlen(name), v = strlen(value), i = 0;
    at[i++] = 0; at[i++] = n; memcpy(at + i, name, n); i += n;
    at[i++] = v; memcpy(at + i, value, v); return i + v;
}

static void make_grpc_frames(void) {
    uint8_t *end = memchr(request, '\n', request_size), head[1024]; size_t used = 0;
    if (!end) { fputs("the first line of a gRPC request file is its path\n", stderr); exit(1); }
    *end = 0;
    used += put_field(head + used, ":method", "POST");
    used += put_field(head + used, ":scheme", "http");
    used += put_field(head + used, ":path", (char *)request);
    used += put_field(head + used, ":authority", "localhost");
    used += put_field(head + used, "te", "trailers");
    used += put_field(head + used, "content-type", "application/grpc");
    size_t size = request_size - (end + 1 - request);
    frames = malloc(size + size / 16384 * 16 + 4096);
    put_frame(1, 4, head, used);
    uint8_t *message = malloc(size + 5);
    message[0] = 0; message[1] = size >> 24; message[2] = size >> 16; message[3] = size >> 8; message[4] = size;
    memcpy(message + 5, end + 1, size);
    for (size_t at = 0; at < size + 5; at += 16384) {
        size_t part = size + 5 - at < 16384 ? size + 5 - at : 16384;
        put_frame(0, at + part == size + 5, message + at, part);
    }
    free(message);
}

static void watch(Connection *c, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event)) die("epoll_ctl");
}

static void open_connection(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (grpc) {
        static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            "\0\0\6\4\0\0\0\0\0" "\0\4\x3f\xff\xff\xff"   /* SETTINGS: initial window 2^30-1 */
            "\0\0\4\x8\0\0\0\0\0" "\x3f\xff\0\0";          /* WINDOW_UPDATE of the connection */
        if (write(c->fd, hello, sizeof hello - 1) < 0) die("write");
        c->stream = 1;
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->busy = c->writing = 0; c->have = 0;
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
}

static void reopen(Connection *c) {
    close(c->fd); reconnects++;
    open_connection(c);
}

static void push(Connection *c) {
    const uint8_t *bytes = grpc ? frames : request; size_t size = grpc ? frames_size : request_size;
    while (c->sent < size) {
        if (grpc && c->sent == 0)
            for (size_t i = 0; i < stream_place_count; i++) {
                uint8_t *at = frames + stream_places[i]; uint32_t s = c->stream;
                at[0] = s >> 24; at[1] = s >> 16; at[2] = s >> 8; at[3] = s;
            }
        ssize_t done = send(c->fd, bytes + c->sent, size - c->sent, MSG_NOSIGNAL);
        if (done < 0) {
            if (errno == EAGAIN) { if (!c->writing) { c->writing = 1; watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD); } return; }
            errors++; reopen(c); return;
        }
        c->sent += done;
    }
    if (c->writing) { c->writing = 0; watch(c, EPOLLIN, EPOLL_CTL_MOD); }
}

static void begin(Connection *c, double due) {
    c->busy = 1; c->sent = 0; c->have = 0; c->need = 0; c->status = 0; c->got_message = 0;
    c->due = due; c->begun = now();
    push(c);
}

static void answered(Connection *c) {
    double t = now();
    c->busy = 0;
    if (t < count_from_s) return; /* by when it was answered, as the rate is: by its due, what is sent late is missing */
    if (c->status == 200) { note(&ok_sent, t - c->begun); note(&ok_due, t - c->due); }
    else if (c->status == 503) { note(&shed_sent, t - c->begun); note(&shed_due, t - c->due); }
    else others++;
}

/* Returns 1 when the answer is complete. Keeps only the head of a large body. */
static int take_http(Connection *c, size_t got) {
    if (!c->need) {
        c->have += got;
        uint8_t *end = memmem(c->in, c->have, "\r\n\r\n", 4);
        if (!end) return 0;
        *end = 0;
        char *length = strcasestr((char *)c->in, "content-length:");
        c->status = c->have > 12 ? atoi((char *)c->in + 9) : 0;
        c->need = (end + 4 - c->in) + (length ? atol(length + 15) : 0);
    } else c->have += got;
    return (long)c->have >= c->need;
}

static int take_grpc(Connection *c, size_t got) {
    size_t at = 0; int done = 0;
    c->have += got;
    while (c->have - at >= 9) {
        uint8_t *f = c->in + at; size_t size = f[0] << 16 | f[1] << 8 | f[2];
        if (c->have - at < 9 + size) break;
        uint32_t stream = (f[5] & 127) << 24 | f[6] << 16 | f[7] << 8 | f[8];
        if (f[3] == 0 && size > 5) c->got_message = 1;
        if (f[3] == 4 && !(f[4] & 1)) { static const uint8_t ack[] = "\0\0\0\4\1\0\0\0\0"; if (send(c->fd, ack, 9, MSG_NOSIGNAL) < 0) errors++; }
        if (f[3] == 6 && !(f[4] & 1)) { uint8_t pong[17]; memcpy(pong, f, 17); pong[4] = 1; if (send(c->fd, pong, 17, MSG_NOSIGNAL) < 0) errors++; }
        if (f[3] == 7 || f[3] == 3) { errors++; c->status = 599; done = 1; }
        if ((f[3] == 0 || f[3] == 1) && (f[4] & 1) && stream == c->stream && c->busy) {
            c->status = c->got_message ? 200 : 503; done = 1;
        }
        at += 9 + size;
    }
    memmove(c->in, c->in + at, c->have - at); c->have -= at;
    if (done) {
        static long received; received += frames_size;
        c->stream += 2;
        static const uint8_t more[] = "\0\0\4\x8\0\0\0\0\0" "\0\1\0\0";  /* 64 KiB back to the connection's window */
        if (c->stream % 64 == 1 && send(c->fd, more, 13, MSG_NOSIGNAL) < 0) errors++;
    }
    return done;
}

static int pull(Connection *c) {
    for (;;) {
        size_t at = (!grpc && c->need) ? 4096 : c->have; /* the rest of an HTTP body is counted, not kept */
        ssize_t got = recv(c->fd, c->in + at, BUFFER - at - 1, 0);
        if (got < 0 && errno == EAGAIN) return 0;
        if (got <= 0) { if (c->busy) errors++; reopen(c); return 0; }
        if (grpc ? take_grpc(c, got) : take_http(c, got)) { answered(c); return 1; }
    }
}

static int by_value(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return (x > y) - (x < y); }

static void print_times(const char *name, Times *t, int last) {
    static const double places[] = {0.5, 0.9, 0.99, 0.999, 1.0}; static const char *names[] = {"p50", "p90", "p99", "p999", "max"};
    qsort(t->values, t->count, sizeof(double), by_value);
    printf("\"%s\": {\"count\": %zu", name, t->count);
    for (int i = 0; t->count && i < 5; i++) {
        size_t at = places[i] * t->count; if (at >= t->count) at = t->count - 1;
        printf(", \"%s_us\": %.1f", names[i], t->values[at]);
    }
    printf("}%s", last ? "" : ", ");
}

int main(int argc, char **argv) {
    if (argc != 7) { fputs("usage: load http|grpc PORT REQUEST_FILE CONNECTIONS SECONDS RATE\n", stderr); return 2; }
    grpc = !strcmp(argv[1], "grpc"); port = atoi(argv[2]); connection_count = atoi(argv[4]);
    double seconds = atof(argv[5]), rate = atof(argv[6]);
    FILE *file = fopen(argv[3], "rb");
    if (!file) die(argv[3]);
    fseek(file, 0, SEEK_END); request_size = ftell(file); rewind(file);
    request = malloc(request_size + 1);
    if (fread(request, 1, request_size, file) != request_size) die(argv[3]);
    if (grpc) make_grpc_frames();
    if ((epoll_fd = epoll_create1(0)) < 0) die("epoll");
    connections = calloc(connection_count, sizeof *connections);
    for (int i = 0; i < connection_count; i++) { connections[i].in = malloc(BUFFER); open_connection(&connections[i]); }
    /* free connections as a stack, due requests as a counter: O(1) a request whatever the number of connections */
    int *free_ones = malloc(connection_count * sizeof(int)), free_count = 0;
    for (int i = connection_count; i--;) free_ones[free_count++] = i;
    start_s = now(); count_from_s = start_s + seconds * 0.1; end_s = start_s + seconds;
    long next = 0; double cpu_from = 0;
    struct timespec cpu; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu); cpu_from = cpu.tv_sec + cpu.tv_nsec * 1e-9;
    struct epoll_event events[512];
    for (double t = now(); t < end_s; t = now()) {
        if (rate <= 0) while (free_count) begin(&connections[free_ones[--free_count]], now());
        while (rate > 0 && start_s + next / rate <= t) {
            double due = start_s + next / rate;
            if (free_count) { begin(&connections[free_ones[--free_count]], due); next++; }
            else if (t - due > PATIENCE_S) { if (t >= count_from_s) unsent++; next++; }
            else break;
        }
        int wait_ms = rate > 0 ? 0 : 100; /* an open loop spins: it has a core of its own, and sleeping makes it late */
        int n = epoll_wait(epoll_fd, events, 512, wait_ms);
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            int was_busy = c->busy;
            if (events[i].events & EPOLLOUT) push(c);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) pull(c);
            if (was_busy && !c->busy) free_ones[free_count++] = c - connections;
        }
    }
    double counted = end_s - count_from_s;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("{\"seconds\": %.3f, \"per_second\": %.1f, \"shed_per_second\": %.1f, \"errors\": %ld, \"others\": %ld, \"unsent\": %ld, "
           "\"reconnects\": %ld, \"client_cpu\": %.3f, ", counted, ok_sent.count / counted, shed_sent.count / counted, errors, others,
           unsent, reconnects, (cpu.tv_sec + cpu.tv_nsec * 1e-9 - cpu_from) / seconds);
    print_times("ok_from_sent", &ok_sent, 0); print_times("ok_from_due", &ok_due, 0);
    print_times("shed_from_sent", &shed_sent, 0); print_times("shed_from_due", &shed_due, 1);
    puts("}");
    return 0;
}
