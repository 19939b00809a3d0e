/*
 * The load generator: SMTP, POP3 and IMAP clients in number, over plaintext, implicit TLS or STARTTLS.
 *
 *   load --protocol smtp|pop3|imap --port N [--tls none|implicit|starttls]
 *        [--workload session|bulk|noop|idle] [--op append|fetch] [--connections N] [--workers N]
 *        [--seconds S] [--count N] [--size BYTES] [--text] [--edited] [--pipeline N] [--per-session N] [--deadline S]
 *
 * session  connect, [TLS], capabilities, login, a small transaction, quit; then again on a new connection
 * bulk     log in once, then a message of --size again and again: DATA, RETR, FETCH BODY[] or APPEND
 * noop     log in once, then NOOP and its answer again and again (--pipeline: that many in one packet;
 *          --per-session: connect anew after about that many, for a server that limits them)
 * idle     log in --connections times, SELECT, [--op fetch: FETCH a large message], IDLE, say {"held": N}, and
 *          wait for the end of standard input
 *
 * Every answer is checked, every message fetched is compared byte by byte with the one expected (not with
 * --edited: the proxy changes it).  A run ends
 * after --seconds or --count operations, whichever comes first; what is under way is brought to its end.
 * Prints one JSON line.  Exit status 1 if a session failed, 2 if the run could not be made.
 */
#include "common.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LINE_LIMIT 8192
#define CHUNK (256 * 1024)
#define BUCKETS 512
#define MAX_STEPS 24

enum wanted { NOTHING, SMTP_REPLY, POP_LINE, POP_LINES, POP_MESSAGE, IMAP_TAGGED, IMAP_PLUS, IMAP_GREETING };
enum tls { TLS_NONE, TLS_IMPLICIT, TLS_STARTTLS };

struct step {
    const char *send;
    size_t len;
    enum wanted wanted;
    int replies, then_tls, begins, ends;
};

struct shared {
    volatile int stop;
    uint64_t claimed, ops, bytes, errors, held;
    uint64_t bucket[BUCKETS];
    char trouble[256];
};

struct conn {
    int fd, step, connecting, handshaking, want_write, replies, in_lines, active, loops;
    SSL *ssl;
    const char *out;
    size_t out_len;
    char line[LINE_LIMIT];
    size_t line_len, literal, literal_off;
    int comparing;
    uint64_t begun;
};

static struct step script[MAX_STEPS];
static int steps, loop_from = -1, loop_to = -1;
static struct shared *shared;
static SSL_CTX *context;
static struct sockaddr_in target;
static int poller, live, protocol = IMAP;
static enum tls tls = TLS_NONE;
static const char *workload = "session", *op = "";
static int connections = 50, workers = 1, pipelined = 1, per_session = INT32_MAX, text, deadline = 120;
static int edited;
static double seconds = 2;
static uint64_t count = UINT64_MAX, began;
static size_t message_size = 10u << 20;
static char *message, chunk[CHUNK];

static void step(const char *send, enum wanted wanted)
{
    if (steps == MAX_STEPS)
        die("script too long");
    script[steps++] = (struct step){ send, send ? strlen(send) : 0, wanted, 1, 0, 0, 0 };
}

/* The message on the wire, with what ends it in DATA or behind an APPEND's literal. */
static void step_message(size_t size, const char *end, enum wanted wanted)
{
    char *made = make_message(size, text), *wire = malloc(size + 8);
    memcpy(wire, made, size);
    strcpy(wire + size, end);
    step(NULL, wanted);
    script[steps - 1].send = wire;
    script[steps - 1].len = size + strlen(end);
    free(made);
}

static char *format(const char *pattern, size_t n)
{
    char *made = NULL;
    if (asprintf(&made, pattern, n) < 0)
        die("out of memory");
    return made;
}

static char *repeated(const char *verb)
{
    char *made = calloc((size_t)pipelined, 32), *at = made;
    for (int i = 0; i < pipelined; i++)
        at += protocol == IMAP ? sprintf(at, "n%d %s\r\n", i, verb) : sprintf(at, "%s\r\n", verb);
    return made;
}

/* From here to the last step is one operation. */
static int mark;
static void begin(void)
{
    mark = steps;
}

static void end(int loops)
{
    script[mark].begins = 1;
    script[steps - 1].ends = 1;
    if (loops) {
        loop_from = mark;
        loop_to = steps - 1;
    }
}

static void smtp_script(int session, int bulk, int noop)
{
    step(NULL, SMTP_REPLY);
    step("EHLO client.example.org\r\n", SMTP_REPLY);
    if (tls == TLS_STARTTLS) {
        step("STARTTLS\r\n", SMTP_REPLY);
        script[steps - 1].then_tls = 1;
        step("EHLO client.example.org\r\n", SMTP_REPLY);
    }
    step("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n", SMTP_REPLY);
    if (session || bulk) {
        size_t size = session ? SMALL_MESSAGE : message_size;
        if (bulk)
            begin();
        step(format("MAIL FROM:<alice@example.org> SIZE=%zu\r\n", size), SMTP_REPLY);
        step("RCPT TO:<bob@example.org>\r\n", SMTP_REPLY);
        step("DATA\r\n", SMTP_REPLY);
        step_message(size, ".\r\n", SMTP_REPLY);
        if (bulk)
            end(1);
    }
    if (noop) {
        begin();
        step(repeated("NOOP"), SMTP_REPLY);
        script[steps - 1].replies = pipelined;
        end(1);
    }
    step("QUIT\r\n", SMTP_REPLY);
}

static void pop3_script(int session, int bulk, int noop)
{
    step(NULL, POP_LINE);
    step("CAPA\r\n", POP_LINES);
    if (tls == TLS_STARTTLS) {
        step("STLS\r\n", POP_LINE);
        script[steps - 1].then_tls = 1;
        step("CAPA\r\n", POP_LINES);
    }
    step("USER alice\r\n", POP_LINE);
    step("PASS secret\r\n", POP_LINE);
    if (session)
        step("STAT\r\n", POP_LINE);
    if (bulk) {
        begin();
        step("RETR 2\r\n", POP_MESSAGE);
        end(1);
    }
    if (noop) {
        begin();
        step(repeated("NOOP"), POP_LINE);
        script[steps - 1].replies = pipelined;
        end(1);
    }
    step("QUIT\r\n", POP_LINE);
}

static void imap_script(int session, int bulk, int noop, int idle)
{
    step(NULL, IMAP_GREETING);
    step("a1 CAPABILITY\r\n", IMAP_TAGGED);
    if (tls == TLS_STARTTLS) {
        step("a2 STARTTLS\r\n", IMAP_TAGGED);
        script[steps - 1].then_tls = 1;
        step("a3 CAPABILITY\r\n", IMAP_TAGGED);
    }
    step("a4 LOGIN alice secret\r\n", IMAP_TAGGED);
    step("a5 SELECT INBOX\r\n", IMAP_TAGGED);
    if (session)
        step("a6 NOOP\r\n", IMAP_TAGGED);
    if (bulk) {
        begin();
        if (!strcmp(op, "append")) {
            step(format("a7 APPEND INBOX {%zu}\r\n", message_size), IMAP_PLUS);
            step_message(message_size, "\r\n", IMAP_TAGGED);
        } else
            step("a7 FETCH 2 BODY[]\r\n", IMAP_TAGGED);
        end(1);
    }
    if (noop) {
        begin();
        step(repeated("NOOP"), IMAP_TAGGED);
        script[steps - 1].replies = pipelined;
        end(1);
    }
    if (idle && !strcmp(op, "fetch"))
        step("a7 FETCH 2 BODY[]\r\n", IMAP_TAGGED);
    if (idle) {
        step("a8 IDLE\r\n", IMAP_PLUS);
        step("DONE\r\n", IMAP_TAGGED);
    }
    step("a9 LOGOUT\r\n", IMAP_TAGGED);
}

static void write_script(void)
{
    int session = !strcmp(workload, "session"), bulk = !strcmp(workload, "bulk");
    int noop = !strcmp(workload, "noop"), idle = !strcmp(workload, "idle");
    if (session + bulk + noop + idle != 1 || (idle && protocol != IMAP))
        die("unknown workload %s", workload);
    if (protocol == SMTP)
        smtp_script(session, bulk, noop);
    else if (protocol == POP3)
        pop3_script(session, bulk, noop);
    else
        imap_script(session, bulk, noop, idle);
    if (session) {
        script[0].begins = 1;
        script[steps - 1].ends = 1;
    }
}

static int running(void)
{
    return !shared->stop && shared->claimed < count && now_ns() - began <= (uint64_t)(seconds * 1e9);
}

static int may_begin(void)
{
    return running() && __atomic_fetch_add(&shared->claimed, 1, __ATOMIC_RELAXED) < count;
}

/* Sixteen buckets an octave of microseconds. */
static int bucket_of(uint64_t ns)
{
    uint64_t us16 = ns * 16 / 1000;
    int octave = 0;
    while (us16 >> octave >= 32)
        octave++;
    int at = octave * 16 + (int)(us16 >> octave);
    return at < BUCKETS ? at : BUCKETS - 1;
}

static double bucket_us(int at)
{
    int octave = at < 32 ? 0 : at / 16 - 1;
    return (double)((uint64_t)(at - octave * 16) << octave) / 16;
}

static void arm(struct conn *c, int want_write)
{
    if (c->want_write == want_write)
        return;
    c->want_write = want_write;
    struct epoll_event e = { EPOLLIN | (want_write ? EPOLLOUT : 0u), { .ptr = c } };
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void hang_up(struct conn *c)
{
    if (c->ssl) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
        ERR_clear_error();
    }
    close(c->fd);
    c->fd = -1;
    live--;
}

static int fail(struct conn *c, const char *why)
{
    if (__atomic_fetch_add(&shared->errors, 1, __ATOMIC_RELAXED) == 0)
        snprintf(shared->trouble, sizeof shared->trouble, "step %d (%.40s): %s: %.120s", c->step,
                 script[c->step].send && script[c->step].len < 200 ? script[c->step].send : "-", why, c->line);
    if (shared->errors >= 20)
        shared->stop = 1;
    hang_up(c);
    return -1;
}

static void dial(struct conn *c)
{
    memset(c, 0, offsetof(struct conn, line));
    c->line[0] = 0;
    c->line_len = c->literal = 0;
    c->comparing = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    no_delay(c->fd);
    c->begun = now_ns();
    c->connecting = c->want_write = 1;
    live++;
    struct epoll_event e = { EPOLLIN | EPOLLOUT, { .ptr = c } };
    if (connect(c->fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS)
        fail(c, strerror(errno));
    else
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static int write_some(struct conn *c)
{
    while (c->out_len) {
        ssize_t n;
        if (c->ssl) {
            int r = SSL_write(c->ssl, c->out, c->out_len > CHUNK ? CHUNK : (int)c->out_len);
            if (r <= 0) {
                int e = SSL_get_error(c->ssl, r);
                if (e == SSL_ERROR_WANT_WRITE || e == SSL_ERROR_WANT_READ)
                    break;
                return fail(c, "TLS write");
            }
            n = r;
        } else {
            n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN)
                break;
            if (n < 0)
                return fail(c, strerror(errno));
        }
        c->out += n;
        c->out_len -= (size_t)n;
    }
    arm(c, c->out_len > 0);
    return 0;
}

static int shake_hands(struct conn *c)
{
    if (!c->ssl) {
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_connect_state(c->ssl);
        c->handshaking = 1;
    }
    int r = SSL_do_handshake(c->ssl);
    if (r == 1) {
        c->handshaking = 0;
        arm(c, 0);
        return 0;
    }
    int e = SSL_get_error(c->ssl, r);
    if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
        return fail(c, "TLS handshake");
    arm(c, e == SSL_ERROR_WANT_WRITE);
    return 0;
}

static int perform(struct conn *c);

/* The step's last reply is here: count, loop, start TLS, or go on.  1: this connection is done. */
static int advance(struct conn *c)
{
    const struct step *s = &script[c->step];
    if (s->ends) {
        __atomic_fetch_add(&shared->ops, (uint64_t)s->replies, __ATOMIC_RELAXED);
        __atomic_fetch_add(&shared->bucket[bucket_of(now_ns() - c->begun)], 1, __ATOMIC_RELAXED);
    }
    c->loops += s->replies;
    if (c->step == loop_to && c->loops < per_session && may_begin())
        c->step = loop_from;
    else if (++c->step == steps) {
        hang_up(c);
        return 1;
    } else if (c->step == loop_from && !may_begin())
        c->step = loop_to + 1;
    if (s->then_tls) {
        if (shake_hands(c) < 0)
            return -1;
        if (c->handshaking)
            return 0;
    }
    return perform(c);
}

static int perform(struct conn *c)
{
    const struct step *s = &script[c->step];
    if (s->begins && c->step)
        c->begun = now_ns();
    if (!strcmp(workload, "idle") && c->step && script[c->step - 1].wanted == IMAP_PLUS && !shared->stop) {
        c->active = 2;
        shared->held++;
        return 0;
    }
    c->replies = s->replies;
    c->in_lines = 0;
    c->out = s->send;
    c->out_len = s->len;
    if (s->len > 4096)
        __atomic_fetch_add(&shared->bytes, s->len, __ATOMIC_RELAXED);
    return write_some(c);
}

/* One whole line without its CRLF.  1: the step is done. */
static int line(struct conn *c)
{
    char *l = c->line;
    size_t n = c->line_len;
    switch (script[c->step].wanted) {
    case SMTP_REPLY:
        if (l[0] != '2' && l[0] != '3')
            return fail(c, "refused");
        return n < 4 || l[3] == ' ' ? --c->replies == 0 : 0;
    case POP_LINE:
        if (strncmp(l, "+OK", 3))
            return fail(c, "refused");
        return --c->replies == 0;
    case POP_LINES:
    case POP_MESSAGE:
        if (!c->in_lines) {
            if (strncmp(l, "+OK", 3))
                return fail(c, "refused");
            c->in_lines = 1;
            if (script[c->step].wanted == POP_MESSAGE && !edited) {
                c->literal = message_size;
                c->literal_off = 0;
                c->comparing = 1;
            }
            return 0;
        }
        return n == 1 && l[0] == '.';
    case IMAP_GREETING:
        return strncmp(l, "* OK", 4) ? fail(c, "refused") : 1;
    case IMAP_PLUS:
        if (l[0] == '*')
            return 0;
        return l[0] == '+' ? 1 : fail(c, "refused");
    case IMAP_TAGGED:
        if (l[0] == '*') {
            if (n && l[n - 1] == '}') {
                char *open = strrchr(l, '{');
                c->literal = open ? strtoull(open + 1, NULL, 10) : 0;
                c->literal_off = 0;
                c->comparing = c->literal > SMALL_MESSAGE && !edited;
                if (c->comparing && c->literal != message_size)
                    return fail(c, "wrong size");
            }
            return 0;
        }
        if (l[0] == ')')
            return 0;
        if (!strstr(l, " OK"))
            return fail(c, "refused");
        return --c->replies == 0;
    default:
        return fail(c, "unexpected");
    }
}

static int hear(struct conn *c, const char *p, size_t n)
{
    while (n) {
        if (c->literal) {
            size_t take = n < c->literal ? n : c->literal;
            if (c->comparing && memcmp(p, message + c->literal_off, take))
                return fail(c, "the message differs");
            if (c->comparing)
                __atomic_fetch_add(&shared->bytes, take, __ATOMIC_RELAXED);
            c->literal -= take;
            c->literal_off += take;
            p += take;
            n -= take;
            continue;
        }
        const char *newline = memchr(p, '\n', n);
        size_t take = newline ? (size_t)(newline - p) + 1 : n;
        if (c->line_len + take >= sizeof c->line)
            return fail(c, "line too long");
        memcpy(c->line + c->line_len, p, take);
        c->line_len += take;
        p += take;
        n -= take;
        if (!newline)
            break;
        if (c->line_len < 2 || c->line[c->line_len - 2] != '\r')
            return fail(c, "a line without CR");
        c->line_len -= 2;
        c->line[c->line_len] = 0;
        int done = line(c);
        c->line_len = 0;
        if (done < 0)
            return -1;
        if (done) {
            if (n)
                return fail(c, "more than was asked for");
            return advance(c);
        }
    }
    return 0;
}

static int read_some(struct conn *c)
{
    for (;;) {
        ssize_t n;
        if (c->ssl) {
            int r = SSL_read(c->ssl, chunk, sizeof chunk);
            if (r <= 0) {
                int e = SSL_get_error(c->ssl, r);
                if (e == SSL_ERROR_WANT_READ)
                    return 0;
                return fail(c, e == SSL_ERROR_ZERO_RETURN ? "closed" : "TLS read");
            }
            n = r;
        } else {
            n = recv(c->fd, chunk, sizeof chunk, 0);
            if (n < 0 && errno == EAGAIN)
                return 0;
            if (n <= 0)
                return fail(c, n ? strerror(errno) : "closed");
        }
        int r = hear(c, chunk, (size_t)n);
        if (r || c->handshaking)
            return r;
        if (!c->ssl && n < CHUNK)
            return 0;
    }
}

/* 0: it goes on; otherwise the connection is no more. */
static int turn(struct conn *c, uint32_t events)
{
    if (c->connecting) {
        int trouble = 0;
        socklen_t len = sizeof trouble;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &trouble, &len);
        if (trouble)
            return fail(c, strerror(trouble));
        c->connecting = 0;
        arm(c, 0);
        if (tls == TLS_IMPLICIT && shake_hands(c) < 0)
            return -1;
        c->replies = script[0].replies;
    }
    if (c->handshaking) {
        if (shake_hands(c) < 0)
            return -1;
        if (c->handshaking)
            return 0;
        if (c->step) {
            int r = perform(c);
            if (r)
                return r;
        }
    }
    if (c->out_len && write_some(c) < 0)
        return -1;
    return events & (EPOLLIN | EPOLLHUP | EPOLLERR) || c->ssl ? read_some(c) : 0;
}

static void overdue(int signal_number)
{
    (void)signal_number;
    static const char said[] = "load: the run took too long\n";
    if (write(STDERR_FILENO, said, sizeof said - 1) < 0) {
    }
    _exit(2);
}

/* Hold every connection in IDLE until standard input ends; opens them 50 at a time. */
static void hold(struct conn *all)
{
    int opened = 0, told = 0;
    for (;;) {
        while (opened < connections && opened - (int)shared->held < 50)
            dial(&all[opened++]);
        if (!told && (int)shared->held == connections) {
            printf("{\"held\": %d}\n", connections);
            fflush(stdout);
            told = 1;
        }
        if (shared->errors)
            return;
        if (told) {
            struct pollfd ends = { STDIN_FILENO, POLLIN, 0 };
            if (poll(&ends, 1, 50) > 0)
                break;
        }
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, told ? 0 : 50);
        for (int i = 0; i < n; i++)
            turn(events[i].data.ptr, events[i].events);
    }
    shared->stop = 1;
    for (int i = 0; i < connections; i++)
        if (all[i].fd >= 0 && all[i].active == 2)
            perform(&all[i]);
}

static void work(int which)
{
    int mine = connections / workers + (which < connections % workers);
    struct conn *all = calloc((size_t)mine + 1, sizeof *all);
    int session = !strcmp(workload, "session");
    poller = epoll_create1(EPOLL_CLOEXEC);
    signal(SIGALRM, overdue);
    alarm((unsigned)deadline);
    if (!strcmp(workload, "idle"))
        hold(all);
    else
        for (int i = 0; i < mine; i++)
            if (!session || may_begin())
                dial(&all[i]);
    while (live) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 1000);
        for (int i = 0; i < n; i++)
            if (turn(events[i].data.ptr, events[i].events) && (session ? may_begin() : running()))
                dial(events[i].data.ptr);
    }
}

static double percentile(uint64_t total, double share)
{
    uint64_t seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += shared->bucket[i];
        if (seen && (double)seen >= share * (double)total)
            return bucket_us(i);
    }
    return 0;
}

static void read_options(int argc, char **argv)
{
    static const char *protocols[] = { "smtp", "pop3", "imap" }, *ways[] = { "none", "implicit", "starttls" };
    int port = 0;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--text") || !strcmp(name, "--edited")) {
            *(name[2] == 't' ? &text : &edited) = 1;
            continue;
        }
        if (++i == argc)
            die("%s wants a value (see the head of load.c)", name);
        const char *value = argv[i];
        if (!strcmp(name, "--protocol") || !strcmp(name, "--tls")) {
            int found = -1;
            for (int j = 0; j < 3; j++)
                if (!strcmp(value, name[2] == 'p' ? protocols[j] : ways[j]))
                    found = j;
            if (found < 0)
                die("%s: unknown value %s", name, value);
            if (name[2] == 'p')
                protocol = found;
            else
                tls = (enum tls)found;
        } else if (!strcmp(name, "--port"))
            port = atoi(value);
        else if (!strcmp(name, "--workload"))
            workload = value;
        else if (!strcmp(name, "--op"))
            op = value;
        else if (!strcmp(name, "--connections"))
            connections = atoi(value);
        else if (!strcmp(name, "--workers"))
            workers = atoi(value);
        else if (!strcmp(name, "--pipeline"))
            pipelined = atoi(value);
        else if (!strcmp(name, "--per-session"))
            per_session = atoi(value);
        else if (!strcmp(name, "--deadline"))
            deadline = atoi(value);
        else if (!strcmp(name, "--seconds"))
            seconds = atof(value);
        else if (!strcmp(name, "--count"))
            count = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--size"))
            message_size = strtoull(value, NULL, 10);
        else
            die("unknown option %s (see the head of load.c)", name);
    }
    if (port < 1 || port > 65535 || connections < 1 || workers < 1 || pipelined < 1 || deadline < 1)
        die("--port is needed; numbers must be positive");
    if (workers > connections || !strcmp(workload, "idle"))
        workers = 1;
    target = loopback(port);
}

int main(int argc, char **argv)
{
    int status = 0;
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    write_script();
    message = make_message(message_size, text);
    if (tls != TLS_NONE) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        if (strcmp(workload, "idle")) {
            SSL_CTX_set_read_ahead(context, 1);
            SSL_CTX_set_default_read_buffer_len(context, 64 * 1024);
        }
    }
    began = now_ns();
    for (int i = 0; i < workers; i++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork: %s", strerror(errno));
        if (!pid) {
            work(i);
            _exit(0);
        }
    }
    for (int i = 0, s; i < workers; i++)
        if (wait(&s) > 0 && (!WIFEXITED(s) || WEXITSTATUS(s)))
            status = 2;
    double wall = (double)(now_ns() - began) / 1e9;
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    uint64_t total = 0;
    for (int i = 0; i < BUCKETS; i++)
        total += shared->bucket[i];
    printf("{\"ops\": %llu, \"bytes\": %llu, \"errors\": %llu, \"wall\": %.4f, \"cpu\": %.4f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f}\n", (unsigned long long)shared->ops, (unsigned long long)shared->bytes,
           (unsigned long long)shared->errors, wall,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
           + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
           percentile(total, .5), percentile(total, .99));
    if (shared->errors)
        fprintf(stderr, "load: %llu sessions failed, the first at %s\n", (unsigned long long)shared->errors,
                shared->trouble);
    return status ? status : shared->errors ? 1 : 0;
}
