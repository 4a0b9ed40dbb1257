package main

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/d--j/go-milter"
)

// dj is the client of github.com/d--j/go-milter: it sends the macros that the milter asks for, and knows all of version 6.
type dj struct {
	session *milter.ClientSession
	macros  *milter.MacroBag
}

func openDJ(opened *opening) (client, error) {
	macros := milter.NewMacroBag()
	set(macros, opened.Macros)
	options := []milter.Option{milter.WithReadTimeout(time.Minute), milter.WithWriteTimeout(time.Minute)}
	if opened.Actions != nil {
		options = append(options, milter.WithActions(milter.OptAction(*opened.Actions)))
	} else {
		options = append(options, milter.WithActions(milter.AllClientSupportedActionMasks))
	}
	session, err := milter.NewClient("unix", opened.Socket, options...).Session(macros)
	if err != nil {
		return nil, err
	}
	return &dj{session: session, macros: macros}, nil
}

func set(macros *milter.MacroBag, values map[string]string) {
	for name := range maps.Keys(values) {
		spelled := name
		if len(name) > 1 {
			spelled = "{" + name + "}"
		}
		macros.Set(milter.MacroName(spelled), values[name])
	}
}

func (c *dj) connect(name, peer string, port uint16) (verdict, error) {
	family := milter.FamilyInet
	if strings.Contains(peer, ":") {
		family = milter.FamilyInet6
	}
	return fromDJ(c.session.Conn(name, family, port, peer))
}

func (c *dj) helo(name string) (verdict, error) { return fromDJ(c.session.Helo(name)) }

func (c *dj) mail(sender string, arguments []string, macros map[string]string) (verdict, error) {
	c.macros.Set(milter.MacroAuthAuthen, "")
	set(c.macros, macros)
	return fromDJ(c.session.Mail(sender, strings.Join(arguments, " ")))
}

func (c *dj) rcpt(recipient string) (verdict, error) { return fromDJ(c.session.Rcpt(recipient, "")) }

func (c *dj) data() (verdict, error) { return fromDJ(c.session.DataStart()) }

func (c *dj) field(name, value string) (verdict, error) {
	return fromDJ(c.session.HeaderField(name, value, nil))
}

func (c *dj) endOfHeaders() (verdict, error) { return fromDJ(c.session.HeaderEnd()) }

func (c *dj) body(piece []byte) (verdict, error) { return fromDJ(c.session.BodyChunk(piece)) }

func (c *dj) end() ([]string, verdict, error) {
	changes, action, err := c.session.End()
	var removed []string
	for _, change := range changes {
		if change.Type == milter.ActionDelRcpt {
			removed = append(removed, change.Rcpt)
		}
	}
	result, err := fromDJ(action, err)
	return removed, result, err
}

func (c *dj) keepsSpace() bool { return c.session.ProtocolOption(milter.OptHeaderLeadingSpace) }

func (c *dj) abort() error { return c.session.Abort(nil) }

func (c *dj) close() error { return c.session.Close() }

func fromDJ(action *milter.Action, err error) (verdict, error) {
	if err != nil {
		return "", err
	}
	switch action.Type {
	case milter.ActionContinue, milter.ActionSkip:
		return goOn, nil
	case milter.ActionAccept:
		return accept, nil
	case milter.ActionDiscard:
		return discard, nil
	case milter.ActionReject, milter.ActionTempFail, milter.ActionRejectWithCode:
		return verdict(action.SMTPReply), nil
	}
	return "", fmt.Errorf("unexpected action %v", action)
}
