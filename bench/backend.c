/*
 * The mail server behind the proxy under test: SMTP, POP3 and IMAP with canned answers, and the HTTP
 * responder that nginx's auth_http asks.  Any user and password is let in.  One thread, epoll, loopback,
 * plaintext; it stores nothing.
 *
 *   backend [--size BYTES] [--text]
 *
 * Prints one JSON line with its ports and serves until its standard input ends.
 */
#include "common.h"

#define LINE_LIMIT 4096
#define CHUNK (1 << 20)

enum mode { LINES, DATA, LITERAL };

struct conn {
    int fd, protocol, closing, want_write;
    enum mode mode;
    /* the line so far */
    char line[LINE_LIMIT];
    size_t line_len;
    /* DATA: what the end-of-data search remembers across chunks */
    char before[2];
    int dot_state;
    size_t got, announced;
    int challenge;
    /* IMAP: the command whose literal is being read */
    size_t literal;
    char tag[32], verb[16];
    int continued;
    /* answers that the kernel did not take yet: small, then bulk, then after */
    char small[LINE_LIMIT], after[256];
    size_t small_len, small_off, bulk_len, after_len;
    const char *bulk;
    /* input kept back while a bulk answer drains */
    char *held;
    size_t held_len;
};

static int poller, ports[PROTOCOLS];
static char chunk[CHUNK];
static char *pop_answer[3], *imap_answer[3];
static size_t pop_len[3], imap_len[3], size_of[3];

static void reply(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void reply(struct conn *c, const char *format, ...)
{
    va_list args;
    char *to = c->bulk ? c->after : c->small;
    size_t *len = c->bulk ? &c->after_len : &c->small_len;
    size_t room = (c->bulk ? sizeof c->after : sizeof c->small) - *len;
    va_start(args, format);
    int n = vsnprintf(to + *len, room, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= room)
        c->closing = 1;
    else
        *len += (size_t)n;
}

static void finish(struct conn *c)
{
    close(c->fd);
    free(c->held);
    free(c);
}

static int pending(const struct conn *c)
{
    return c->small_len > c->small_off || c->bulk || c->after_len;
}

/* Hand the kernel what it takes.  Returns -1 when the connection is gone. */
static int flush(struct conn *c)
{
    while (pending(c)) {
        struct iovec part[3];
        int parts = 0;
        if (c->small_len > c->small_off)
            part[parts++] = (struct iovec){ c->small + c->small_off, c->small_len - c->small_off };
        if (c->bulk)
            part[parts++] = (struct iovec){ (char *)c->bulk, c->bulk_len };
        if (c->after_len)
            part[parts++] = (struct iovec){ c->after, c->after_len };
        struct msghdr message = { .msg_iov = part, .msg_iovlen = (size_t)parts };
        ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        size_t sent = (size_t)n, take = c->small_len - c->small_off;
        if (take > sent)
            take = sent;
        c->small_off += take;
        sent -= take;
        if (c->small_off == c->small_len)
            c->small_off = c->small_len = 0;
        if (c->bulk) {
            take = c->bulk_len < sent ? c->bulk_len : sent;
            c->bulk += take;
            c->bulk_len -= take;
            sent -= take;
            if (!c->bulk_len)
                c->bulk = NULL;
        }
        memmove(c->after, c->after + sent, c->after_len - sent);
        c->after_len -= sent;
    }
    return 0;
}

static void smtp_command(struct conn *c, char *line)
{
    if (c->challenge) {
        c->challenge--;
        reply(c, c->challenge ? "334 UGFzc3dvcmQ6\r\n" : "235 2.7.0 Authentication successful\r\n");
    } else if (!strncasecmp(line, "EHLO", 4))
        reply(c, "250-backend.example.org\r\n250-PIPELINING\r\n250-SIZE 209715200\r\n250-8BITMIME\r\n"
                 "250-AUTH PLAIN LOGIN\r\n250 ENHANCEDSTATUSCODES\r\n");
    else if (!strncasecmp(line, "HELO", 4))
        reply(c, "250 backend.example.org\r\n");
    else if (!strncasecmp(line, "AUTH PLAIN", 10)) {
        c->challenge = line[10] != ' ';
        reply(c, c->challenge ? "334 \r\n" : "235 2.7.0 Authentication successful\r\n");
    } else if (!strncasecmp(line, "AUTH LOGIN", 10)) {
        c->challenge = line[10] == ' ' ? 1 : 2;
        reply(c, c->challenge == 1 ? "334 UGFzc3dvcmQ6\r\n" : "334 VXNlcm5hbWU6\r\n");
    } else if (!strncasecmp(line, "MAIL FROM:", 10)) {
        char *size = strcasestr(line, " SIZE=");
        c->announced = size ? strtoull(size + 6, NULL, 10) : 0;
        reply(c, "250 2.1.0 Ok\r\n");
    } else if (!strncasecmp(line, "RCPT TO:", 8))
        reply(c, "250 2.1.5 Ok\r\n");
    else if (!strcasecmp(line, "DATA")) {
        c->mode = DATA;
        memcpy(c->before, "\r\n", 2);
        c->dot_state = 0;
        c->got = 0;
        reply(c, "354 End data with <CR><LF>.<CR><LF>\r\n");
    } else if (!strcasecmp(line, "NOOP") || !strcasecmp(line, "RSET"))
        reply(c, "250 2.0.0 Ok\r\n");
    else if (!strcasecmp(line, "QUIT")) {
        reply(c, "221 2.0.0 Bye\r\n");
        c->closing = 1;
    } else
        reply(c, "502 5.5.2 Command not recognized\r\n");
}

static void pop3_command(struct conn *c, char *line)
{
    if (!strcasecmp(line, "CAPA"))
        reply(c, "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nUSER\r\n.\r\n");
    else if (!strncasecmp(line, "USER", 4) || !strncasecmp(line, "PASS", 4) || !strcasecmp(line, "NOOP")
             || !strncasecmp(line, "DELE", 4) || !strcasecmp(line, "RSET"))
        reply(c, "+OK\r\n");
    else if (!strcasecmp(line, "STAT"))
        reply(c, "+OK 2 %zu\r\n", size_of[1] + size_of[2]);
    else if (!strcasecmp(line, "LIST"))
        reply(c, "+OK\r\n1 %zu\r\n2 %zu\r\n.\r\n", size_of[1], size_of[2]);
    else if (!strcasecmp(line, "UIDL"))
        reply(c, "+OK\r\n1 small\r\n2 large\r\n.\r\n");
    else if (!strcasecmp(line, "RETR 1") || !strcasecmp(line, "RETR 2")) {
        int which = line[5] - '0';
        c->bulk = pop_answer[which];
        c->bulk_len = pop_len[which];
    } else if (!strcasecmp(line, "QUIT")) {
        reply(c, "+OK bye\r\n");
        c->closing = 1;
    } else
        reply(c, "-ERR unknown command\r\n");
}

static void imap_command(struct conn *c, char *line)
{
    size_t len = strlen(line);
    if (!strcasecmp(line, "DONE")) {
        reply(c, "%s OK IDLE terminated\r\n", c->tag);
        return;
    }
    if (!c->continued) {
        c->tag[0] = c->verb[0] = 0;
        if (sscanf(line, "%31s %15s", c->tag, c->verb) != 2) {
            reply(c, "* BAD no command\r\n");
            return;
        }
    }
    c->continued = 0;
    if (len && line[len - 1] == '}') {
        char *open = strrchr(line, '{');
        if (open) {
            c->literal = strtoull(open + 1, NULL, 10);
            c->mode = LITERAL;
            c->continued = 1;
            if (line[len - 2] != '+')
                reply(c, "+ OK\r\n");
            return;
        }
    }
    const char *verb = c->verb;
    if (!strcasecmp(verb, "CAPABILITY"))
        reply(c, "* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR IDLE\r\n");
    else if (!strcasecmp(verb, "AUTHENTICATE") && !strchr(line + strlen(c->tag) + 14, ' ')) {
        c->continued = 1;
        reply(c, "+ \r\n");
        return;
    } else if (!strcasecmp(verb, "SELECT"))
        reply(c, "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* 2 EXISTS\r\n* 0 RECENT\r\n"
                 "* OK [UIDVALIDITY 1] UIDs valid\r\n* OK [UIDNEXT 3] Predicted next UID\r\n");
    else if (!strcasecmp(verb, "FETCH")) {
        int which = 0;
        sscanf(line, "%*s %*s %d", &which);
        if ((which == 1 || which == 2) && strcasestr(line, "BODY[]")) {
            c->bulk = imap_answer[which];
            c->bulk_len = imap_len[which];
        } else
            reply(c, "* 1 FETCH (FLAGS (\\Seen))\r\n");
    } else if (!strcasecmp(verb, "IDLE")) {
        reply(c, "+ idling\r\n");
        return;
    } else if (!strcasecmp(verb, "LOGOUT")) {
        reply(c, "* BYE logging out\r\n");
        c->closing = 1;
    }
    reply(c, "%s OK done\r\n", c->tag);
}

/* nginx asks with one request per connection; the user's password is never looked at. */
static void auth_line(struct conn *c, char *line)
{
    if (!strncasecmp(line, "Auth-Protocol: ", 15))
        c->got = (size_t)(line[15] == 's' ? SMTP : line[15] == 'p' ? POP3 : IMAP);
    if (*line)
        return;
    reply(c, "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: %d\r\n\r\n", ports[c->got]);
    c->closing = 1;
}

/* Read message data; returns how much of it was used: up to and with the end of data, or all. */
static size_t smtp_data(struct conn *c, const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if (c->dot_state) {
            if (c->dot_state == 2 && p[i] == '\n') {
                c->mode = LINES;
                c->got += i + 1 - 3;
                if (c->got < c->announced)
                    reply(c, "554 5.6.0 %zu bytes announced, %zu arrived\r\n", c->announced, c->got);
                else
                    reply(c, "250 2.0.0 Ok: queued as 1\r\n");
                return i + 1;
            }
            c->dot_state = c->dot_state == 1 && p[i] == '\r' ? 2 : 0;
            i++;
            continue;
        }
        const char *dot = memchr(p + i, '.', n - i);
        if (!dot)
            break;
        i = (size_t)(dot - p);
        char cr = i >= 2 ? p[i - 2] : i == 1 ? c->before[1] : c->before[0];
        char lf = i >= 1 ? p[i - 1] : c->before[1];
        c->dot_state = cr == '\r' && lf == '\n';
        i++;
    }
    if (n >= 2)
        memcpy(c->before, p + n - 2, 2);
    else {
        c->before[0] = c->before[1];
        c->before[1] = p[0];
    }
    c->got += n;
    return n;
}

static void hear(struct conn *c, const char *p, size_t n)
{
    while (n && !c->closing) {
        if (c->bulk) {
            c->held = realloc(c->held, c->held_len + n);
            if (!c->held)
                die("out of memory");
            memcpy(c->held + c->held_len, p, n);
            c->held_len += n;
            return;
        }
        size_t used;
        if (c->mode == DATA)
            used = smtp_data(c, p, n);
        else if (c->mode == LITERAL) {
            used = n < c->literal ? n : c->literal;
            c->literal -= used;
            if (!c->literal)
                c->mode = LINES;
        } else {
            const char *end = memchr(p, '\n', n);
            used = end ? (size_t)(end - p) + 1 : n;
            if (c->line_len + used >= sizeof c->line) {
                c->closing = 1;
                return;
            }
            memcpy(c->line + c->line_len, p, used);
            c->line_len += used;
            if (end) {
                c->line_len--;
                if (c->line_len && c->line[c->line_len - 1] == '\r')
                    c->line_len--;
                c->line[c->line_len] = 0;
                c->line_len = 0;
                if (c->protocol == SMTP)
                    smtp_command(c, c->line);
                else if (c->protocol == POP3)
                    pop3_command(c, c->line);
                else if (c->protocol == IMAP)
                    imap_command(c, c->line);
                else
                    auth_line(c, c->line);
            }
        }
        p += used;
        n -= used;
        if (c->small_len > sizeof c->small / 2 && flush(c) < 0)
            c->closing = 1;
    }
}

static void serve(struct conn *c, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            finish(c);
            return;
        }
        if (n > 0)
            hear(c, chunk, (size_t)n);
    }
    if (flush(c) < 0) {
        finish(c);
        return;
    }
    while (!c->bulk && c->held_len) {
        char *held = c->held;
        size_t len = c->held_len;
        c->held = NULL;
        c->held_len = 0;
        hear(c, held, len);
        free(held);
        if (flush(c) < 0) {
            finish(c);
            return;
        }
    }
    if (c->closing && !pending(c)) {
        finish(c);
        return;
    }
    if (pending(c) != c->want_write) {
        c->want_write = pending(c);
        struct epoll_event e = { EPOLLIN | (c->want_write ? EPOLLOUT : 0u), { .ptr = c } };
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    }
}

static void welcome(int listener, int protocol)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c)
            die("out of memory");
        c->fd = fd;
        c->protocol = protocol;
        no_delay(fd);
        struct epoll_event e = { EPOLLIN, { .ptr = c } };
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
        if (protocol == SMTP)
            reply(c, "220 backend.example.org ESMTP\r\n");
        else if (protocol == POP3)
            reply(c, "+OK ready\r\n");
        else if (protocol == IMAP)
            reply(c, "* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR IDLE] ready\r\n");
        if (flush(c) < 0)
            finish(c);
    }
}

static void prepare(int which, size_t size, int text)
{
    char *message = make_message(size, text);
    size_of[which] = size;
    pop_answer[which] = malloc(size + 128);
    imap_answer[which] = malloc(size + 128);
    if (!pop_answer[which] || !imap_answer[which])
        die("out of memory");
    size_t n = (size_t)sprintf(pop_answer[which], "+OK %zu octets\r\n", size);
    memcpy(pop_answer[which] + n, message, size);
    memcpy(pop_answer[which] + n + size, ".\r\n", 3);
    pop_len[which] = n + size + 3;
    n = (size_t)sprintf(imap_answer[which], "* %d FETCH (UID %d BODY[] {%zu}\r\n", which, which, size);
    memcpy(imap_answer[which] + n, message, size);
    memcpy(imap_answer[which] + n + size, ")\r\n", 3);
    imap_len[which] = n + size + 3;
    free(message);
}

int main(int argc, char **argv)
{
    size_t size = 10u << 20;
    int text = 0, listeners[PROTOCOLS];
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--size") && i + 1 < argc)
            size = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--text"))
            text = 1;
        else
            die("usage: backend [--size BYTES] [--text]");
    }
    prepare(1, SMALL_MESSAGE, text);
    prepare(2, size, text);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < PROTOCOLS; i++) {
        struct sockaddr_in address = loopback(0);
        socklen_t len = sizeof address;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) || listen(fd, 4096)
            || getsockname(fd, (struct sockaddr *)&address, &len))
            die("cannot listen: %s", strerror(errno));
        listeners[i] = fd;
        ports[i] = ntohs(address.sin_port);
        struct epoll_event e = { EPOLLIN, { .ptr = &listeners[i] } };
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
    static int control;
    struct epoll_event e = { EPOLLIN, { .ptr = &control } };
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &e))
        die("standard input must be a pipe: it ends the backend");
    printf("{\"smtp\": %d, \"pop3\": %d, \"imap\": %d, \"auth\": %d}\n", ports[SMTP], ports[POP3], ports[IMAP],
           ports[AUTH]);
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if (who == &control)
                return 0;
            if (who >= (void *)listeners && who < (void *)(listeners + PROTOCOLS))
                welcome(*(int *)who, (int)((int *)who - listeners));
            else
                serve(who, events[i].events);
        }
    }
}
