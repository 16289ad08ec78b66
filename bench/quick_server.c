/* The program in the sandbox that `bench/ingress.py` measures the way to: one thread, epoll, nothing but memory, so that
 * it is never what is waited for.
 *
 *     GET /bytes/N         N bytes
 *     PUT or POST          the body is counted and dropped, the count is the answer
 *     Upgrade: websocket   a small frame comes back as it came, a ping as a pong
 *
 * Whatever else it is sent ends the connection: a benchmark had better fail than measure something else.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_ROOM = 16 << 10, BLOCK = 1 << 20, SMALL = 4096, MAX_FRAME = 125, EVENTS = 256 };

enum phase { HEAD, BODY, SENDING, FRAMES };

struct peer {
    int fd;
    enum phase phase;
    int waits_to_send;
    long long left;  /* of a body that comes, or of an answer that goes */
    long long size;  /* of the body */
    size_t filled;
    char bytes[HEAD_ROOM];
};

static int epoll;
static char block[BLOCK];

/* ---- the answer to a WebSocket's key (RFC 6455, 4.2.2): SHA-1 (FIPS 180-4) in base64 */

static uint32_t rotated(uint32_t word, int by) { return word << by | word >> (32 - by); }

static void sha1_block(uint32_t state[5], const unsigned char *bytes) {
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)bytes[4 * i] << 24 | bytes[4 * i + 1] << 16 | bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                     : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                              : (b ^ c ^ d) + 0xCA62C1D6;
        uint32_t next = rotated(a, 5) + f + e + w[i];
        e = d, d = c, c = rotated(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

static void accept_key(const char *key, char out[29]) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char padded[128] = {0}, digest[21] = {0};
    int length = snprintf((char *)padded, 62, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key); /* 60: two blocks */
    padded[length] = 0x80;
    padded[126] = (unsigned char)(length * 8 >> 8), padded[127] = (unsigned char)(length * 8);
    sha1_block(state, padded), sha1_block(state, padded + 64);
    for (int i = 0; i < 20; i++)
        digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
    for (int i = 0; i < 7; i++) {
        uint32_t three = digest[3 * i] << 16 | digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++)
            out[4 * i + j] = alphabet[three >> (18 - 6 * j) & 63];
    }
    out[27] = '=', out[28] = 0; /* 20 bytes: the last of 28 letters stands for none */
}

/* ---- a connection; the functions below return 0 when it is to be closed */

static int send_all(int fd, const char *bytes, size_t count) {
    return send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count; /* little, and there is room for it */
}

static int watch(struct peer *peer, int to_send) {
    if (peer->waits_to_send == to_send)
        return 1;
    struct epoll_event event = {.events = to_send ? EPOLLOUT : EPOLLIN, .data.ptr = peer};
    peer->waits_to_send = to_send;
    return epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &event) == 0;
}

static const char *field(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':')
            return line + 3 + length + strspn(line + 3 + length, " ");
    return NULL;
}

static int carry_on_sending(struct peer *peer) {
    while (peer->left) {
        ssize_t sent = send(peer->fd, block, peer->left < BLOCK ? (size_t)peer->left : BLOCK, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN && watch(peer, 1);
        peer->left -= sent;
    }
    peer->phase = HEAD;
    return watch(peer, 0);
}

static int send_bytes(struct peer *peer, long long count) {
    char answer[256 + SMALL];
    int head = snprintf(answer, 256, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %lld\r\n\r\n", count);
    if (count <= SMALL) {
        memcpy(answer + head, block, (size_t)count);
        return send_all(peer->fd, answer, (size_t)(head + count));
    }
    peer->phase = SENDING, peer->left = count;
    return send(peer->fd, answer, (size_t)head, MSG_NOSIGNAL | MSG_MORE) == head && carry_on_sending(peer);
}

static int count_body(struct peer *peer, long long more) {
    char answer[256], digits[24];
    if (more > peer->left)
        return 0;
    peer->left -= more;
    if (peer->left)
        return 1;
    peer->phase = HEAD;
    int length = snprintf(digits, sizeof digits, "%lld", peer->size);
    int all = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, digits);
    return send_all(peer->fd, answer, (size_t)all);
}

static int upgrade(struct peer *peer, const char *key) {
    char accepted[29], answer[256];
    accept_key(key, accepted);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          accepted);
    peer->phase = FRAMES;
    return send_all(peer->fd, answer, (size_t)length);
}

static int answer(struct peer *peer, const char *head) {
    const char *key = field(head, "Sec-WebSocket-Key"), *length = field(head, "Content-Length");
    if (key && strcspn(key, "\r") == 24)
        return upgrade(peer, key);
    if (!strncmp(head, "GET /bytes/", 11))
        return send_bytes(peer, atoll(head + 11));
    if ((strncmp(head, "PUT ", 4) && strncmp(head, "POST ", 5)) || !length)
        return 0;
    if (field(head, "Expect") && !send_all(peer->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25))
        return 0;
    peer->phase = BODY, peer->left = peer->size = atoll(length);
    return peer->left ? 1 : count_body(peer, 0);
}

/* How many bytes the first frame has; 0: not all there yet; below 0: none that is understood here. */
static int frame_size(const struct peer *peer) {
    if (peer->filled < 2)
        return 0;
    int length = peer->bytes[1] & 127;
    if (!(peer->bytes[1] & 128) || length > MAX_FRAME)
        return -1;
    return peer->filled < (size_t)(6 + length) ? 0 : 6 + length;
}

static int echo(struct peer *peer, int size) {
    char out[2 + MAX_FRAME];
    int length = size - 6, opcode = peer->bytes[0] & 15;
    out[0] = opcode == 9 ? (char)0x8A : peer->bytes[0];
    out[1] = (char)length;
    for (int i = 0; i < length; i++)
        out[2 + i] = peer->bytes[6 + i] ^ peer->bytes[2 + i % 4];
    return send_all(peer->fd, out, (size_t)(2 + length)) && opcode != 8;
}

static void forget(struct peer *peer, size_t count) {
    peer->filled -= count;
    memmove(peer->bytes, peer->bytes + count, peer->filled);
    peer->bytes[peer->filled] = 0;
}

static int next_head(struct peer *peer) {
    char *end = strstr(peer->bytes, "\r\n\r\n");
    if (!end)
        return -(peer->filled < HEAD_ROOM - 1);
    end[2] = 0;
    int goes_on = answer(peer, peer->bytes);
    forget(peer, (size_t)(end + 4 - peer->bytes));
    return goes_on;
}

static int next_body(struct peer *peer) {
    size_t mine = (long long)peer->filled < peer->left ? peer->filled : (size_t)peer->left;
    forget(peer, mine);
    return count_body(peer, (long long)mine);
}

static int next_frame(struct peer *peer) {
    int size = frame_size(peer);
    if (size <= 0)
        return size < 0 ? 0 : -1;
    int goes_on = echo(peer, size);
    forget(peer, (size_t)size);
    return goes_on;
}

/* Everything that has come, as far as it goes. */
static int advance(struct peer *peer) {
    int goes_on = 1;
    while (goes_on > 0 && peer->filled && peer->phase != SENDING)
        goes_on = peer->phase == HEAD ? next_head(peer) : peer->phase == BODY ? next_body(peer) : next_frame(peer);
    return goes_on; /* below 0: more has to come */
}

static int receive(struct peer *peer) {
    if (peer->phase == BODY) {
        ssize_t got = recv(peer->fd, NULL, BLOCK, MSG_TRUNC); /* TCP drops it without copying */
        return got > 0 ? count_body(peer, got) : got < 0 && errno == EAGAIN;
    }
    ssize_t got = recv(peer->fd, peer->bytes + peer->filled, HEAD_ROOM - 1 - peer->filled, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    peer->filled += (size_t)got;
    peer->bytes[peer->filled] = 0;
    return advance(peer);
}

static void welcome(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!peer || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
            exit(1);
        peer->fd = fd;
    }
}

int main(int argc, char **argv) {
    struct rlimit files = {0, 0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[EVENTS], hello = {.events = EPOLLIN, .data.ptr = NULL};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (argc != 2)
        return 2;
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    memset(block, 'x', sizeof block);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096) || epoll < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &hello)) {
        perror("not listening");
        return 1;
    }
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer) {
                welcome(listener);
            } else if (!(peer->phase == SENDING ? carry_on_sending(peer) && advance(peer) : receive(peer))) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}
