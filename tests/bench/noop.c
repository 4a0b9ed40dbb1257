/* A milter in C on libmilter that does nothing: the rival.
 *
 *   noop SOCKET plain      all callbacks, default negotiation, every step answered "continue": the ordinary do-nothing milter
 *   noop SOCKET OUTCOME    the least for one outcome: only the steps and answers that it needs
 *
 * OUTCOME is accept (at DATA, before the content), reject-rcpt, discard and relay (at the end of the message, whose body must
 * have been seen), reject-headers (at the end of the headers, which must have been seen), or mixed: each message gets the outcome
 * of its envelope and Content-Type, with the steps that all outcomes need.
 */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum outcome { ACCEPT, REJECT_RCPT, DISCARD, RELAY, REJECT_HEADERS, MIXED };
static const char *const OUTCOMES[] = {"accept", "reject-rcpt", "discard", "relay", "reject-headers", "mixed"};

static enum outcome wanted;

/* What the mixed milter needs to know of a message. */
struct state {
    int relay_host, report, feedback;
};

#define UNANSWERED (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_HDR | SMFIP_NR_BODY | SMFIP_NOUNKNOWN)

static const unsigned long STEPS[] = {
    [ACCEPT] = UNANSWERED | SMFIP_NR_RCPT | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY,
    [REJECT_RCPT] = UNANSWERED | SMFIP_NODATA | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY,
    [DISCARD] = UNANSWERED | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NR_EOH,
    [RELAY] = UNANSWERED | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NR_EOH,
    [REJECT_HEADERS] = UNANSWERED | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NOBODY,
    [MIXED] = UNANSWERED,
};

static sfsistat negotiate(SMFICTX *context, unsigned long actions, unsigned long steps, unsigned long unused,
                          unsigned long unused_too, unsigned long *do_actions, unsigned long *do_steps,
                          unsigned long *do_unused, unsigned long *do_unused_too) {
    (void)unused, (void)unused_too;
    smfi_setpriv(context, calloc(1, sizeof(struct state)));
    *do_actions = actions & SMFIF_DELRCPT;
    *do_steps = steps & STEPS[wanted];
    *do_unused = *do_unused_too = 0;
    return SMFIS_CONTINUE;
}

static sfsistat after_connect(SMFICTX *context, char *name, _SOCK_ADDR *address) {
    (void)context, (void)name, (void)address;
    return SMFIS_NOREPLY;
}

/* All mail of the benchmark is from one address: the sender tells a relay host's mail from an external host's. */
static sfsistat after_mail(SMFICTX *context, char **words) {
    struct state *state = smfi_getpriv(context);
    state->relay_host = !strcmp(words[0], "<news@send.example>");
    return SMFIS_NOREPLY;
}

static sfsistat after_helo(SMFICTX *context, char *name) {
    (void)context, (void)name;
    return SMFIS_NOREPLY;
}

static sfsistat reject(SMFICTX *context) {
    smfi_setreply(context, "550", "5.7.1", "relaying not permitted");
    return SMFIS_REJECT;
}

static sfsistat after_rcpt(SMFICTX *context, char **words) {
    struct state *state = smfi_getpriv(context);
    if (wanted == REJECT_RCPT || (wanted == MIXED && !state->relay_host && !strstr(words[0], "@bounce.") &&
                                  !strstr(words[0], "@fbl.")))
        return reject(context);
    state->feedback = strstr(words[0], "@fbl.") != NULL;
    return STEPS[wanted] & SMFIP_NR_RCPT ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat after_data(SMFICTX *context) {
    struct state *state = smfi_getpriv(context);
    if (wanted == ACCEPT || (wanted == MIXED && state->relay_host))
        return SMFIS_ACCEPT;
    return STEPS[wanted] & SMFIP_NR_DATA ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat after_header(SMFICTX *context, char *name, char *value) {
    struct state *state = smfi_getpriv(context);
    if (!strcasecmp(name, "Content-Type") && strstr(value, "multipart/report"))
        state->report = 1;
    return SMFIS_NOREPLY;
}

static sfsistat after_headers(SMFICTX *context) {
    struct state *state = smfi_getpriv(context);
    if (wanted == REJECT_HEADERS || (wanted == MIXED && !state->report))
        return reject(context);
    return STEPS[wanted] & SMFIP_NR_EOH ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat after_body(SMFICTX *context, unsigned char *piece, size_t size) {
    (void)context, (void)piece, (void)size;
    return SMFIS_NOREPLY;
}

static sfsistat after_message(SMFICTX *context) {
    struct state *state = smfi_getpriv(context);
    return wanted == RELAY || (wanted == MIXED && state->feedback) ? SMFIS_ACCEPT : SMFIS_DISCARD;
}

static sfsistat after_abort(SMFICTX *context) {
    (void)context;
    return SMFIS_CONTINUE;
}

static sfsistat after_close(SMFICTX *context) {
    free(smfi_getpriv(context));
    smfi_setpriv(context, NULL);
    return SMFIS_CONTINUE;
}

/* The plain one: it accepts everything. */
static sfsistat pass(SMFICTX *context) { return (void)context, SMFIS_CONTINUE; }
static sfsistat pass_connect(SMFICTX *context, char *name, _SOCK_ADDR *peer) { return (void)name, (void)peer, pass(context); }
static sfsistat pass_word(SMFICTX *context, char *word) { return (void)word, pass(context); }
static sfsistat pass_words(SMFICTX *context, char **words) { return (void)words, pass(context); }
static sfsistat pass_header(SMFICTX *context, char *name, char *value) { return (void)name, (void)value, pass(context); }
static sfsistat pass_body(SMFICTX *context, unsigned char *piece, size_t size) { return (void)piece, (void)size, pass(context); }
static sfsistat pass_unknown(SMFICTX *context, const char *command) { return (void)command, pass(context); }

static struct smfiDesc plain = {
    .xxfi_name = "noop", .xxfi_version = SMFI_VERSION, .xxfi_flags = SMFIF_DELRCPT,
    .xxfi_connect = pass_connect, .xxfi_helo = pass_word, .xxfi_envfrom = pass_words, .xxfi_envrcpt = pass_words,
    .xxfi_data = pass, .xxfi_header = pass_header, .xxfi_eoh = pass, .xxfi_body = pass_body, .xxfi_eom = pass,
    .xxfi_abort = pass, .xxfi_close = pass, .xxfi_unknown = pass_unknown,
};
static struct smfiDesc best = {
    .xxfi_name = "noop", .xxfi_version = SMFI_VERSION, .xxfi_flags = SMFIF_DELRCPT, .xxfi_negotiate = negotiate,
    .xxfi_connect = after_connect, .xxfi_helo = after_helo, .xxfi_envfrom = after_mail, .xxfi_envrcpt = after_rcpt,
    .xxfi_data = after_data, .xxfi_header = after_header, .xxfi_eoh = after_headers, .xxfi_body = after_body,
    .xxfi_eom = after_message, .xxfi_abort = after_abort, .xxfi_close = after_close,
};

int main(int arguments, char **argument) {
    struct smfiDesc *milter = NULL;
    if (arguments == 3 && !strcmp(argument[2], "plain"))
        milter = &plain;
    for (int outcome = ACCEPT; arguments == 3 && outcome <= MIXED; outcome++)
        if (!strcmp(argument[2], OUTCOMES[outcome])) {
            wanted = outcome;
            milter = &best;
        }
    if (!milter) {
        fprintf(stderr, "usage: noop SOCKET plain|accept|reject-rcpt|discard|relay|reject-headers|mixed\n");
        return 2;
    }
    if (smfi_setconn(argument[1]) == MI_FAILURE || smfi_register(*milter) == MI_FAILURE || smfi_opensocket(1) == MI_FAILURE) {
        fprintf(stderr, "cannot listen on %s\n", argument[1]);
        return 1;
    }
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
