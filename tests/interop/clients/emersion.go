package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-milter"
)

// emersion is the client of github.com/emersion/go-milter: it never sends DATA, and names macros without braces.
type emersion struct {
	session *milter.ClientSession
	macros  map[string]string
}

func openEmersion(opened *opening) (client, error) {
	actions := milter.OptAddHeader | milter.OptRemoveRcpt | milter.OptQuarantine
	if opened.Actions != nil {
		actions = milter.OptAction(*opened.Actions)
	}
	session, err := milter.NewClientWithOptions("unix", opened.Socket, milter.ClientOptions{
		Dialer:       &net.Dialer{},
		ReadTimeout:  time.Minute,
		WriteTimeout: time.Minute,
		ActionMask:   actions,
	}).Session()
	if err != nil {
		return nil, err
	}
	return &emersion{session: session, macros: opened.Macros}, nil
}

func (c *emersion) tell(step milter.Code, macros map[string]string) error {
	var pairs []string
	for name, value := range macros {
		pairs = append(pairs, name, value)
	}
	return c.session.Macros(step, pairs...)
}

func (c *emersion) connect(name, peer string, port uint16) (verdict, error) {
	family := milter.FamilyInet
	if strings.Contains(peer, ":") {
		family = milter.FamilyInet6
	}
	if err := c.tell(milter.CodeConn, c.macros); err != nil {
		return "", err
	}
	return fromEmersion(c.session.Conn(name, family, port, peer))
}

func (c *emersion) helo(name string) (verdict, error) { return fromEmersion(c.session.Helo(name)) }

func (c *emersion) mail(sender string, arguments []string, macros map[string]string) (verdict, error) {
	if err := c.tell(milter.CodeMail, macros); err != nil {
		return "", err
	}
	return fromEmersion(c.session.Mail(sender, arguments))
}

func (c *emersion) rcpt(recipient string) (verdict, error) {
	return fromEmersion(c.session.Rcpt(recipient, nil))
}

func (c *emersion) data() (verdict, error) { return goOn, nil }

func (c *emersion) field(name, value string) (verdict, error) {
	return fromEmersion(c.session.HeaderField(name, value))
}

func (c *emersion) endOfHeaders() (verdict, error) { return fromEmersion(c.session.HeaderEnd()) }

func (c *emersion) body(piece []byte) (verdict, error) {
	return fromEmersion(c.session.BodyChunk(piece))
}

func (c *emersion) end() ([]string, verdict, error) {
	changes, action, err := c.session.End()
	var removed []string
	for _, change := range changes {
		if change.Code == milter.ActDelRcpt {
			removed = append(removed, change.Rcpt)
		}
	}
	result, err := fromEmersion(action, err)
	return removed, result, err
}

func (c *emersion) keepsSpace() bool { return false }

func (c *emersion) abort() error { return c.session.Abort() }

func (c *emersion) close() error { return c.session.Close() }

func fromEmersion(action *milter.Action, err error) (verdict, error) {
	if err != nil {
		return "", err
	}
	switch action.Code {
	case milter.ActContinue, milter.ActSkip:
		return goOn, nil
	case milter.ActAccept:
		return accept, nil
	case milter.ActDiscard:
		return discard, nil
	case milter.ActReject:
		return rejected, nil
	case milter.ActTempFail:
		return tempfailed, nil
	case milter.ActReplyCode:
		return verdict(fmt.Sprintf("%d %s", action.SMTPCode, action.SMTPText)), nil
	}
	return "", fmt.Errorf("unexpected action %q", action.Code)
}
