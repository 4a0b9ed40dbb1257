-- The whole milter protocol as miltertest speaks it. Globals: socket, oob and plain, which are files of messages.

local function same(what, actual, expected)
    if actual ~= expected then
        io.stderr:write(string.format("%s: %s instead of %s\n", what, tostring(actual), tostring(expected)), debug.traceback())
        error(what)
    end
end

-- Call a function of mt, and compare the reply with a letter of the protocol.
local function step(expected, name, conn, ...)
    same(name, mt[name](conn, ...), nil)
    same(name, string.char(mt.getreply(conn)), expected)
end

local function connect(peer, version, actions, steps)
    local conn = mt.connect(socket)
    if conn == nil then
        error("no connection")
    end
    -- Its manual has the last two the other way round.
    same("negotiate", mt.negotiate(conn, version, steps, actions), nil)
    mt.macro(conn, SMFIC_CONNECT, "{daemon_addr}", "10.1.1.1", "{daemon_port}", "25")
    step("c", "conninfo", conn, "peer.example", peer)
    step("c", "helo", conn, "peer.example")
    return conn
end

local function envelope(conn, sender, ...)
    mt.macro(conn, SMFIC_MAIL, "i", "4QUEUEID")
    step("c", "mailfrom", conn, sender)
    for _, recipient in ipairs({ ... }) do
        step("c", "rcptto", conn, recipient)
    end
end

-- Send the header fields and the body of a message file. Return the reply to the end of its header section.
local function content(conn, path)
    local file = assert(io.open(path, "rb"))
    local head, body = file:read("a"):match("^(.-\r\n)\r\n(.*)$")
    file:close()
    for name, value in head:gmatch("([^:\r\n]+):([^\r\n]*)\r\n") do
        same("header", mt.header(conn, name, value), nil)
    end
    same("eoh", mt.eoh(conn), nil)
    local reply = string.char(mt.getreply(conn))
    if reply == "c" then
        same("bodystring", mt.bodystring(conn, body), nil)
    end
    return reply
end

local external, relay_host = "203.0.113.9", "192.0.2.1"

-- What is agreed on.
local conn = connect(external)
same("removal of recipients", mt.test_action(conn, SMFIF_DELRCPT), true)
same("no other action", mt.test_action(conn, SMFIF_ADDRCPT), false)
for _, option in ipairs({ SMFIP_NR_HELO, SMFIP_NR_MAIL, SMFIP_NR_HDR, SMFIP_NR_BODY }) do
    same("a step without an answer", mt.test_option(conn, option), true)
end

-- A recipient that is rejected, and one that is accepted: a bounce, which is dropped.
envelope(conn, "<>", "<sender@bounce.example>")
step("y", "rcptto", conn, "<you@gmail.example>")
step("c", "data", conn)
same("a report", content(conn, oob), "c")
step("d", "eom", conn)

-- Another message on the connection, which is no report.
envelope(conn, "<>", "<sender@bounce.example>")
step("c", "data", conn)
same("no report", content(conn, plain), "c")
step("y", "eom", conn)

-- A bounce for two: one of them is removed.
envelope(conn, "<>", "<sender@bounce.example>", "<a@relay.example>")
step("c", "data", conn)
same("for two", content(conn, oob), "c")
step("a", "eom", conn)
same("removed", mt.eom_check(conn, MT_RCPTDELETE, "<sender@bounce.example>"), true)
same("not removed", mt.eom_check(conn, MT_RCPTDELETE, "<a@relay.example>"), false)

-- An aborted message is forgotten, at each step.
envelope(conn, "<>", "<sender@bounce.example>")
same("abort", mt.abort(conn), nil)
envelope(conn, "<>", "<sender@bounce.example>")
step("c", "data", conn)
same("abort", mt.abort(conn), nil)
envelope(conn, "<>", "<sender@bounce.example>")
step("c", "data", conn)
same("aborted", content(conn, oob), "c")
same("abort", mt.abort(conn), nil)

-- An external host's message to a domain to which all may send: decided at the end of its header section.
envelope(conn, "<me@x.example>", "<a@relay.example>")
step("c", "data", conn)
same("relayed", content(conn, plain), "a")
mt.disconnect(conn)

-- A relay host: decided at DATA.
conn = connect(relay_host)
envelope(conn, "<me@x.example>", "<anyone@gmail.example>")
step("a", "data", conn)
mt.disconnect(conn)

-- An MTA without SMFIP_NODATA, and without any step that it can leave unanswered: with DATA and without.
for _, version in ipairs({ 2, 6 }) do
    conn = connect(external, version, 0x1FF, 0)
    step("c", "unknown", conn, "XYZZY")
    envelope(conn, "<>", "<sender@bounce.example>")
    same("without DATA", content(conn, oob), "c")
    step("d", "eom", conn)
    envelope(conn, "<>", "<sender@bounce.example>")
    step("c", "data", conn)
    same("with DATA", content(conn, oob), "c")
    step("d", "eom", conn)
    mt.disconnect(conn)
end

-- An MTA that cannot remove recipients.
conn = connect(external, 6, 0, 0x1FFFFF)
envelope(conn, "<>", "<sender@bounce.example>", "<a@relay.example>")
step("c", "data", conn)
same("for two", content(conn, oob), "c")
step("y", "eom", conn)
mt.disconnect(conn)

-- A large body in many pieces, and an MTA that disconnects without a word.
conn = connect(external)
envelope(conn, "<>", "<sender@bounce.example>")
step("c", "data", conn)
same("header", mt.header(conn, "Content-Type", "multipart/report; boundary=x"), nil)
step("c", "eoh", conn)
same("bodyrandom", mt.bodyrandom(conn, 300000), nil)
step("y", "eom", conn)
mt.disconnect(conn, false)
