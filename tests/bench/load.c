/* A load generator that speaks the milter protocol (version 6) as Postfix does: one milter connection for each SMTP session.
 *
 *   load SOCKET CONNECTIONS SECONDS SCRIPT...
 *
 * SOCKET is inet:HOST:PORT or unix:PATH. Each of CONNECTIONS threads plays the scripts in turn, one session after the other,
 * until SECONDS are over, and then one line of JSON goes to standard output: sessions, seconds, the answers counted by step and
 * code, and the time of a session (connection to last answer) in microseconds. A session that fails ends the program with
 * status 1 and a line on standard error: a figure is for sessions that were all answered.
 *
 * A script has a line for each thing the MTA tells, fields separated by blanks:
 *   connect IP PORT LISTENER_IP LISTENER_PORT
 *   helo NAME
 *   mail <SENDER> [PARAMETER]
 *   rcpt <RECIPIENT>
 *   content FILE      everything from DATA to the end of the message
 *
 * All packets up to one that must be answered go out in one write, as Postfix's buffering does it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 64, FIELDS = 5, ANSWERS = 32, CHUNK = 65535, SAMPLES = 1 << 20 };

/* What Postfix 3.7 offers, and the bits by which a milter does without a step or without an answer to it. */
static const uint32_t ACTIONS = 0x1ff, STEPS = 0x1fffff;

struct step {
    char command;
    uint32_t without, unanswered;
};
static const struct step PROTOCOL[] = {
    {'C', 0x001, 0x01000}, {'H', 0x002, 0x02000}, {'M', 0x004, 0x04000}, {'R', 0x008, 0x08000}, {'T', 0x200, 0x10000},
    {'L', 0x020, 0x00080}, {'N', 0x040, 0x40000}, {'B', 0x010, 0x80000}, {'E', 0, 0},
};

struct line {
    char kind;
    char *field[FIELDS];
    int fields;
    char *content;
    size_t size;
};
struct script {
    struct line line[LINES];
    int lines;
};
struct answers {
    char step, code;
    long count;
};
struct player {
    pthread_t thread;
    int number, socket;
    uint32_t asked;
    char *out;
    size_t filled, room;
    struct answers answers[ANSWERS];
    long sessions;
    uint32_t *samples;
    const char *doing;
};

static struct sockaddr_storage address;
static socklen_t address_size;
static struct script *scripts;
static int script_count;
static double deadline;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    _exit(1);
}

/* --- packets */

static void put(struct player *player, const void *bytes, size_t size) {
    if (player->filled + size > player->room) {
        player->room = (player->filled + size) * 2;
        player->out = realloc(player->out, player->room);
        if (!player->out)
            fail("no memory");
    }
    memcpy(player->out + player->filled, bytes, size);
    player->filled += size;
}

static void packet(struct player *player, char command, const void *payload, size_t size) {
    uint32_t length = htonl(size + 1);
    put(player, &length, sizeof length);
    put(player, &command, 1);
    put(player, payload, size);
}

static void flush(struct player *player) {
    for (size_t done = 0; done < player->filled;) {
        ssize_t sent = send(player->socket, player->out + done, player->filled - done, MSG_NOSIGNAL);
        if (sent <= 0)
            fail("the milter takes no more at %s: %s", player->doing, strerror(errno));
        done += sent;
    }
    player->filled = 0;
}

static void take(struct player *player, void *into, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t got = recv(player->socket, (char *)into + done, size - done, 0);
        if (got <= 0)
            fail("the milter gives no answer at %s: %s", player->doing, got ? strerror(errno) : "it hung up");
        done += got;
    }
}

/* Takes one packet; gives its code, and its payload in `into` as far as it fits. */
static char receive(struct player *player, char *into, size_t room, size_t *size) {
    uint32_t length;
    char rest[4096], code;
    take(player, &length, sizeof length);
    take(player, &code, 1);
    *size = ntohl(length) - 1;
    if (*size > room) {
        if (*size > sizeof rest)
            fail("an answer of %zu bytes", *size);
        into = rest;
    }
    take(player, into, *size);
    return code;
}

static void count(struct player *player, char step, char code, long times) {
    struct answers *one = player->answers;
    while (one->step && (one->step != step || one->code != code))
        if (++one == player->answers + ANSWERS)
            fail("more kinds of answers than expected");
    one->step = step;
    one->code = code;
    one->count += times;
}

/* Tells a step and gives the milter's answer: 'c' also where none is given, or where the step is not wanted. */
static char tell(struct player *player, char command, const void *payload, size_t size) {
    const struct step *step = PROTOCOL;
    while (step->command != command)
        step++;
    if (player->asked & step->without)
        return 'c';
    packet(player, command, payload, size);
    if (player->asked & step->unanswered)
        return 'c';
    flush(player);
    char code, text[1024];
    /* Before its verdict on a message a milter says what it changes, and that it is still there. */
    do
        code = receive(player, text, sizeof text, &size);
    while (command == 'E' && !strchr("acdrty", code));
    if (code == 'y' && size)
        code = text[0]; /* a reply of its own: 4xx or 5xx */
    count(player, command, code, 1);
    return code;
}

static void macros(struct player *player, char command, int pairs, const char *const words[]) {
    char payload[512];
    size_t size = 0;
    payload[size++] = command;
    for (int word = 0; word < pairs * 2; word++)
        size += snprintf(payload + size, sizeof payload - size, "%s", words[word]) + 1;
    packet(player, 'D', payload, size);
}

/* --- a session */

static void negotiate(struct player *player) {
    uint32_t offer[3] = {htonl(6), htonl(ACTIONS), htonl(STEPS)}, agreed[256];
    size_t size;
    player->doing = "the negotiation";
    packet(player, 'O', offer, sizeof offer);
    flush(player);
    if (receive(player, (char *)agreed, sizeof agreed, &size) != 'O' || size < sizeof offer)
        fail("the milter does not negotiate");
    player->asked = ntohl(agreed[2]);
}

static char on_connect(struct player *player, const struct line *line) {
    char payload[256];
    const char *const told[] = {"{daemon_addr}", line->field[2], "{daemon_port}", line->field[3]};
    macros(player, 'C', 2, told);
    uint16_t port = htons(atoi(line->field[1]));
    size_t size = snprintf(payload, sizeof payload, "peer.example") + 1;
    payload[size++] = strchr(line->field[0], ':') ? '6' : '4';
    memcpy(payload + size, &port, sizeof port);
    size += sizeof port;
    size += snprintf(payload + size, sizeof payload - size, "%s", line->field[0]) + 1;
    return tell(player, 'C', payload, size);
}

static char on_words(struct player *player, char command, const struct line *line) {
    char payload[1024];
    size_t size = 0;
    for (int field = 0; field < line->fields; field++)
        size += snprintf(payload + size, sizeof payload - size, "%s", line->field[field]) + 1;
    return tell(player, command, payload, size);
}

/* One header field a packet: name, value without its first blank unless the milter wants that too. */
static char on_headers(struct player *player, const char *head, const char *end) {
    while (head < end) {
        const char *stop = head, *colon;
        do
            stop = memchr(stop, '\n', end - stop) + 1;
        while (stop < end && (*stop == ' ' || *stop == '\t'));
        if (!(colon = memchr(head, ':', stop - head)))
            fail("a message's header has a line without a colon");
        char payload[8192];
        size_t size = snprintf(payload, sizeof payload, "%.*s", (int)(colon - head), head) + 1;
        const char *value = colon + 1;
        if (!(player->asked & 0x100000) && *value == ' ')
            value++;
        for (; value < stop; value++)
            if (*value != '\r' && value + 1 < stop && size < sizeof payload - 1)
                payload[size++] = *value;
        payload[size++] = '\0';
        char code = tell(player, 'L', payload, size);
        if (code != 'c')
            return code;
        head = stop;
    }
    return tell(player, 'N', "", 0);
}

static char on_content(struct player *player, const struct line *line) {
    static const char *const queue_id[] = {"i", "4FAKEQUEUEID"};
    macros(player, 'T', 1, queue_id);
    player->doing = "DATA";
    char code = tell(player, 'T', "", 0);
    if (code != 'c')
        return code;
    const char *end = line->content + line->size, *body = memmem(line->content, line->size, "\r\n\r\n", 4);
    if (!body)
        fail("a message has no body");
    player->doing = "the headers";
    if ((code = on_headers(player, line->content, body + 2)) != 'c')
        return code;
    player->doing = "the body";
    for (const char *piece = body + 4; piece < end && code == 'c'; piece += CHUNK)
        code = tell(player, 'B', piece, end - piece < CHUNK ? end - piece : CHUNK);
    if (code != 'c' && code != 's')
        return code;
    player->doing = "the end of the message";
    macros(player, 'E', 1, queue_id);
    return tell(player, 'E', "", 0);
}

static void play(struct player *player, const struct script *script) {
    int accepted = 0;
    negotiate(player);
    for (const struct line *line = script->line; line < script->line + script->lines; line++) {
        char code = 'c';
        player->doing = line->kind == 'C' ? "CONNECT" : line->kind == 'R' ? "RCPT" : "the envelope";
        if (line->kind == 'C')
            code = on_connect(player, line);
        else if (line->kind != 'D')
            code = on_words(player, line->kind, line);
        else if (accepted)
            on_content(player, line);
        if (line->kind == 'R')
            accepted += code == 'c';
        else if (code != 'c')
            break; /* accepted or refused once and for all */
    }
    packet(player, 'Q', "", 0);
    flush(player);
}

static void *run(void *argument) {
    struct player *player = argument;
    int one = 1;
    for (int turn = player->number; now() < deadline; turn++) {
        double began = now();
        player->socket = socket(address.ss_family, SOCK_STREAM, 0);
        if (player->socket < 0 || connect(player->socket, (struct sockaddr *)&address, address_size))
            fail("cannot connect: %s", strerror(errno));
        struct timeval patience = {.tv_sec = 10};
        setsockopt(player->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (address.ss_family == AF_INET)
            setsockopt(player->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        play(player, &scripts[turn % script_count]);
        close(player->socket);
        player->samples[player->sessions++ % SAMPLES] = (now() - began) * 1e6;
    }
    return NULL;
}

/* --- what the operator gave, and what is told in the end */

static char *whole_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file)
        fail("%s cannot be read: %s", path, strerror(errno));
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    if (!bytes || fread(bytes, 1, *size, file) != *size)
        fail("%s cannot be read", path);
    bytes[*size] = '\0';
    fclose(file);
    return bytes;
}

static void read_script(const char *path, struct script *script) {
    static const char *const KINDS[] = {"connect", "helo", "mail", "rcpt", "content"};
    size_t size;
    char *text = whole_file(path, &size), *rest;
    for (char *row = strtok_r(text, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest)) {
        if (script->lines == LINES)
            fail("%s has more than %d lines", path, LINES);
        struct line *line = &script->line[script->lines++];
        char *words, *word = strtok_r(row, " ", &words);
        int kind = 0;
        while (word && kind < 5 && strcmp(word, KINDS[kind]))
            kind++;
        if (!word || kind == 5)
            fail("%s has a line that is none: %s", path, row);
        line->kind = "CHMRD"[kind];
        while (line->fields < FIELDS && (word = strtok_r(NULL, " ", &words)))
            line->field[line->fields++] = word;
        if (line->fields < (line->kind == 'C' ? 4 : 1))
            fail("%s has a line with too few fields: %s", path, KINDS[kind]);
        if (line->kind == 'D')
            line->content = whole_file(line->field[0], &line->size);
    }
}

static void read_address(const char *text) {
    if (!strncmp(text, "unix:", 5)) {
        struct sockaddr_un *place = (struct sockaddr_un *)&address;
        place->sun_family = AF_UNIX;
        snprintf(place->sun_path, sizeof place->sun_path, "%s", text + 5);
        address_size = sizeof *place;
        return;
    }
    char host[64];
    int port;
    struct sockaddr_in *place = (struct sockaddr_in *)&address;
    if (sscanf(text, "inet:%63[0-9.]:%d", host, &port) != 2 || inet_pton(AF_INET, host, &place->sin_addr) != 1)
        fail("%s is no socket: write inet:127.0.0.1:8893 or unix:/path", text);
    place->sin_family = AF_INET;
    place->sin_port = htons(port);
    address_size = sizeof *place;
}

static int by_time(const void *one, const void *other) {
    uint32_t left = *(const uint32_t *)one, right = *(const uint32_t *)other;
    return (left > right) - (left < right);
}

static void tell_result(struct player *players, int connections, double seconds) {
    struct player all = {0};
    size_t samples = 0;
    uint32_t *times = malloc(sizeof *times * SAMPLES * connections);
    for (struct player *player = players; player < players + connections; player++) {
        long kept = player->sessions < SAMPLES ? player->sessions : SAMPLES;
        memcpy(times + samples, player->samples, kept * sizeof *times);
        samples += kept;
        all.sessions += player->sessions;
        for (struct answers *one = player->answers; one < player->answers + ANSWERS && one->step; one++)
            count(&all, one->step, one->code, one->count);
    }
    qsort(times, samples, sizeof *times, by_time);
    printf("{\"sessions\": %ld, \"seconds\": %.3f, \"p50\": %u, \"p99\": %u, \"answers\": {", all.sessions, seconds,
           samples ? times[samples / 2] : 0, samples ? times[samples * 99 / 100] : 0);
    for (struct answers *one = all.answers; one < all.answers + ANSWERS && one->step; one++)
        printf("%s\"%c%c\": %ld", one == all.answers ? "" : ", ", one->step, one->code, one->count);
    printf("}}\n");
}

int main(int arguments, char **argument) {
    if (arguments < 5)
        fail("usage: load SOCKET CONNECTIONS SECONDS SCRIPT...");
    read_address(argument[1]);
    int connections = atoi(argument[2]);
    double seconds = atof(argument[3]);
    if (connections < 1 || connections > 1000 || seconds <= 0 || seconds > 600)
        fail("1 to 1000 connections, up to 600 seconds");
    script_count = arguments - 4;
    scripts = calloc(script_count, sizeof *scripts);
    for (int script = 0; script < script_count; script++)
        read_script(argument[4 + script], &scripts[script]);
    struct player *players = calloc(connections, sizeof *players);
    double began = now();
    deadline = began + seconds;
    for (int number = 0; number < connections; number++) {
        players[number].number = number;
        players[number].samples = malloc(sizeof *players->samples * SAMPLES);
        if (!players[number].samples || pthread_create(&players[number].thread, NULL, run, &players[number]))
            fail("cannot start a thread");
    }
    for (int number = 0; number < connections; number++)
        pthread_join(players[number].thread, NULL);
    tell_result(players, connections, now() - began);
    return 0;
}
