// The milter side of an MTA, played with a client library that others wrote.
//
// Usage: clients LIBRARY. Each line of standard input is a question, a JSON object; each has one line as its answer. A connection is
// opened, has any number of messages, and is closed. What an MTA does with a verdict is in this file, and what a library does with
// the protocol in the file of its name.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// question is one line of standard input.
type question struct {
	Open    *opening
	Message *message
	Close   bool
}

// opening begins an SMTP connection. With Actions the MTA offers only these actions, and otherwise all that the library has.
type opening struct {
	Socket  string
	Peer    string
	Port    uint16
	Helo    string
	Macros  map[string]string
	Actions *uint32
}

// message is one message. After Abort ("rcpt", "header", "body") the peer breaks it off. With GoesOn the MTA goes on after an early
// verdict, and takes the last one. With Whole the body has the header section again. Size is the length of what follows the body.
type message struct {
	Sender    string
	Arguments []string
	To        []string
	Content   []byte
	Size      int
	Abort     string
	GoesOn    bool
	Whole     bool
	Macros    map[string]string
}

// answer is one line of standard output: SMTP replies, and the recipients that the message reaches.
type answer struct {
	Connect    string
	Recipients []string
	Content    string
	Delivered  []string
	Error      string
}

// verdict is what a milter says at one step: "continue", "accept", "discard", or a reply that rejects.
type verdict string

const (
	goOn    verdict = "continue"
	accept  verdict = "accept"
	discard verdict = "discard"

	// What an MTA says where the milter has no words of its own.
	rejected   verdict = "550 5.7.1 Command rejected"
	tempfailed verdict = "451 4.7.1 Service unavailable - try again later"
)

// client is a library's milter client for one SMTP connection.
type client interface {
	connect(helo, peer string, port uint16) (verdict, error)
	helo(name string) (verdict, error)
	mail(sender string, arguments []string, macros map[string]string) (verdict, error)
	rcpt(recipient string) (verdict, error)
	data() (verdict, error)
	field(name, value string) (verdict, error)
	endOfHeaders() (verdict, error)
	body(piece []byte) (verdict, error)
	// end returns the recipients that the milter removed.
	end() ([]string, verdict, error)
	// keepsSpace reports whether the milter wants the space after a field's colon.
	keepsSpace() bool
	abort() error
	close() error
}

var libraries = map[string]func(*opening) (client, error){"emersion": openEmersion, "d--j": openDJ}

func main() {
	open := libraries[os.Args[1]]
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<26)
	answers := json.NewEncoder(os.Stdout)
	var session client
	for lines.Scan() {
		var asked question
		var given answer
		err := json.Unmarshal(lines.Bytes(), &asked)
		switch {
		case err != nil:
		case asked.Open != nil:
			session, err = open(asked.Open)
			if err == nil {
				given, err = greet(session, asked.Open)
			}
		case asked.Message != nil:
			given, err = send(session, asked.Message)
		case asked.Close:
			err = session.close()
		}
		if err != nil {
			given.Error = err.Error()
		}
		if err := answers.Encode(given); err != nil {
			os.Exit(1)
		}
	}
}

// greet says who connects, and HELO.
func greet(session client, opened *opening) (answer, error) {
	given, err := session.connect(opened.Helo, opened.Peer, opened.Port)
	if err != nil || given != goOn {
		return answer{Connect: reply(given)}, err
	}
	given, err = session.helo(opened.Helo)
	return answer{Connect: reply(given)}, err
}

// send offers a message, and says what the MTA does with it.
func send(session client, offered *message) (answer, error) {
	var given answer
	result, err := session.mail(offered.Sender, offered.Arguments, offered.Macros)
	if err != nil || result != goOn {
		return given, fmt.Errorf("MAIL: %v %v", result, err)
	}
	var accepted []string
	for _, recipient := range offered.To {
		result, err = session.rcpt(recipient)
		if err != nil {
			return given, err
		}
		given.Recipients = append(given.Recipients, reply(result))
		if result == goOn || result == accept {
			accepted = append(accepted, recipient)
		}
	}
	if len(accepted) == 0 || offered.Abort == "rcpt" {
		return given, session.abort()
	}
	removed, result, err := content(session, offered)
	if err != nil {
		return given, err
	}
	if result == goOn { // the peer broke it off
		return given, session.abort()
	}
	given.Content = reply(result)
	if result == accept {
		given.Delivered = without(accepted, removed)
	}
	return given, nil
}

// content sends the content, and returns the first verdict or, if the MTA goes on, the last one. It is goOn if the peer broke it off.
func content(session client, offered *message) ([]string, verdict, error) {
	fields, body := split(offered)
	result, err := session.data()
	early := func() bool { return err != nil || (result != goOn && !offered.GoesOn) }
	for _, field := range fields {
		if early() {
			break
		}
		name, value, _ := strings.Cut(field, ":")
		if !session.keepsSpace() {
			value = strings.TrimPrefix(value, " ")
		}
		result, err = session.field(name, value)
	}
	if offered.Abort == "header" {
		return nil, goOn, err
	}
	if !early() {
		result, err = session.endOfHeaders()
	}
	for len(body) > 0 && !early() {
		piece := body[:min(len(body), 65535)]
		body = body[len(piece):]
		result, err = session.body(piece)
	}
	if offered.Abort == "body" {
		return nil, goOn, err
	}
	if !early() {
		removed, last, err := session.end()
		if last == goOn { // at the end of a message an MTA takes this for accept
			last = accept
		}
		return removed, last, err
	}
	if err != nil {
		return nil, result, err
	}
	return nil, result, session.abort()
}

// split returns the header fields, folded as they are and without their line ends, and the body.
func split(offered *message) ([]string, []byte) {
	header, body, _ := bytes.Cut(bytes.ReplaceAll(offered.Content, []byte("\n"), []byte("\r\n")), []byte("\r\n\r\n"))
	var fields []string
	for _, line := range strings.Split(string(header), "\r\n") {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			fields[len(fields)-1] += "\r\n" + line
		} else {
			fields = append(fields, line)
		}
	}
	if offered.Whole {
		body = append(append(header, "\r\n\r\n"...), body...)
	}
	return fields, append(body, bytes.Repeat([]byte("large\r\n"), offered.Size/7)...)
}

// reply returns what the peer gets for a verdict.
func reply(given verdict) string {
	switch given {
	case goOn, accept, discard:
		return "250 ok"
	}
	return string(given)
}

func without(accepted, removed []string) []string {
	gone := map[string]bool{}
	for _, recipient := range removed {
		gone[strings.Trim(recipient, "<>")] = true
	}
	var kept []string
	for _, recipient := range accepted {
		if !gone[recipient] {
			kept = append(kept, recipient)
		}
	}
	return kept
}
