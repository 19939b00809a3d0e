/* What the load generator and the backend share: the message, the clock, sockets on loopback. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SMTP, POP3, IMAP, AUTH, PROTOCOLS };

/* Bytes of the message that the "session" workload sends. */
#define SMALL_MESSAGE 2048

static inline void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * A message of exactly `size` bytes that ends in CRLF, the same in every process and run.
 * `text` chooses English lines with dots in them; otherwise lines are base64 as of an attachment.
 * No line begins with a dot, so the bytes are the same with and without dot-stuffing.
 */
static inline char *make_message(size_t size, int text)
{
    static const char header[] = "From: Alice <alice@example.org>\r\nTo: bob@example.org\r\n"
        "Subject: measurement\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n\r\n";
    static const char prose[] = "It was a bright cold day in April. Nobody spoke. The clocks were late, as ever.";
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *message = malloc(size + 1);
    size_t at = sizeof header - 1, column = 0;
    uint32_t state = 2463534242u;
    if (!message || size < sizeof header + 2)
        die("cannot make a message of %zu bytes", size);
    memcpy(message, header, at);
    while (at < size - 2) {
        if (column == 76 && at < size - 4) {
            message[at++] = '\r';
            message[at++] = '\n';
            column = 0;
            continue;
        }
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        message[at++] = text ? prose[column % (sizeof prose - 1)] : alphabet[state & 63];
        column++;
    }
    message[at++] = '\r';
    message[at++] = '\n';
    message[at] = 0;
    return message;
}

static inline void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

#endif
