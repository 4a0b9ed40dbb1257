--[[
Sign the mail of a KumoMTA node, so that the sidecar can verify the reports about it.

  local sign = require('sidecar_sign'):setup {
    secret = '/opt/kumomta/etc/sidecar-secret', -- the first of the sidecar's secret_files: a path, or another KeySource
    header = true, -- the trace header; this is the default
    -- address = true, -- a token in the envelope sender; needs domains
    -- cfbl_address = 'fbl@example.com', -- where complaints are to be sent (RFC 9477)
    -- domains = { 'example.com', '*.example.com' }, -- the sender domains whose mail is signed; all by default
  }
  kumo.on('smtp_server_message_received', function(msg)
    sign(msg) -- before msg:dkim_sign
  end)

Owns the forms of the proofs, as deploy/docs/verification.md describes them. A message that cannot be signed is relayed unsigned,
and the log says why: only its reports cannot be verified.

For KumoMTA 2025.12.02-67ee9e96 and later, the first version with kumo.digest.hmac_sha256.
]]
local kumo = require 'kumo'

local mod = { WRONG = {} }

local KNOWN = { secret = true, header = true, address = true, cfbl_address = true, domains = true }

-- RFC 5321 section 4.5.3.1.1: MTAs need not accept a longer local part.
local LOCAL_PART_LIMIT = 64
local MESSAGE_ID_LIMIT = 998
local DAY = 86400

-- A token: key id, day, MAC.
local TOKEN = '[a-z2-7][a-z2-7]%d%d%d%d%d' .. ('[a-z2-7]'):rep(16)
local TOKEN_SIZE = 23
local BATV = '^prvs=%d%d%d%d%x%x%x%x%x%x=([^@"]+)$'
local ATOM = "[%w!#$%%&'*+/=?^_`{|}~-]+"

-- Seconds until a new secret in the file is used.
local SECRET_TTL = '60s'
-- One for each setup.
local CAPACITY = 16

local function is_flag(value)
  return value == nil or type(value) == 'boolean'
end

local function is_list_of_domains(value)
  if type(value) ~= 'table' or #value == 0 then
    return false
  end
  for _, domain in ipairs(value) do
    if type(domain) ~= 'string' or not domain:match '^%*?[%w._-]+$' then
      return false
    end
  end
  return true
end

-- Returns a list of all errors in the options, one sentence each.
function mod.problems(options)
  if type(options) ~= 'table' then
    return { 'setup takes a table of options.' }
  end
  local problems = {}
  local function check(is_right, sentence)
    if not is_right then
      table.insert(problems, sentence)
    end
  end
  for name in pairs(options) do
    check(KNOWN[name], tostring(name) .. ' is no option: use secret, header, address, cfbl_address and domains.')
  end
  table.sort(problems)
  local secret, address = options.secret, options.cfbl_address
  check(type(secret) == 'string' or type(secret) == 'table', 'secret is missing: name the file of the secret.')
  check(is_flag(options.header), 'header is neither true nor false.')
  check(is_flag(options.address), 'address is neither true nor false.')
  check(
    address == nil or (type(address) == 'string' and address:match '^[%w!#$%%&\'*+/=?^_`{|}~.-]+@[%w.-]+$'),
    "cfbl_address is no mail address: write one such as 'fbl@example.com'."
  )
  check(
    options.domains == nil or is_list_of_domains(options.domains),
    "domains is no list of domains: write one such as { 'example.com', '*.example.com' }."
  )
  check(
    not options.address or options.domains ~= nil,
    'address needs domains: list the sender domains whose bounces come back to you.'
  )
  check(
    options.header ~= false or options.address or options.cfbl_address,
    'header is false, and nothing else is asked for: mail gets no proof.'
  )
  return problems
end

-- Returns the key id and the function that makes MACs. Raises an error if the file has no secret.
local function maker_of(content)
  local line = content:match '^%s*(.-)%s*$'
  if #line < 32 or #line > 256 or not line:match '^[!-~]+$' then
    error('the file of the secret does not have one line with 32 to 256 characters', 0)
  end
  local key = { key_data = line }
  local function digest(text)
    return kumo.digest.hmac_sha256(key, text).base32_nopad:lower()
  end
  local function mac(...)
    return digest(table.concat({ ... }, '\n')):sub(1, 16)
  end
  return digest('sidecar key id'):sub(1, 2), mac
end

-- Returns the form in which addresses are signed, or nil if it needs A-labels, which this script cannot make.
local function comparable(address)
  if address:match '[\128-\255]' then
    return nil
  end
  return (address:lower():gsub('%.$', ''))
end

local function split(address)
  return address:match '^(.*)@([^@]*)$'
end

-- Returns an address without its token of either form.
local function untagged(address)
  local local_part, domain = split(address)
  if not local_part then
    return address
  end
  local lowered = local_part:lower()
  local base = lowered:match('^([^@"]+)%+' .. TOKEN .. '$')
  if base then
    return local_part:sub(1, #base) .. '@' .. domain
  end
  base = lowered:match(BATV)
  return base and local_part:sub(-#base) .. '@' .. domain or address
end

local function is_dot_atom(text)
  return not text:match '^%.' and not text:match '%.%.' and not text:match '%.$'
    and text:gsub('%.', ''):match('^' .. ATOM .. '$') ~= nil
end

local function takes_token(address)
  local local_part, domain = split(address)
  return local_part ~= nil
    and domain ~= ''
    and comparable(address) ~= nil
    and is_dot_atom(local_part)
    and untagged(address) == address
    and not local_part:lower():match '^srs[01][=+-]'
    and #local_part + 1 + TOKEN_SIZE <= LOCAL_PART_LIMIT
end

-- Returns an envelope sender with a token; unchanged if it takes none.
local function tagged(address, id, mac, day)
  if not takes_token(address) then
    return address
  end
  local local_part, domain = split(address)
  return string.format('%s+%s%s%s@%s', local_part, id, day, mac('address', day, comparable(address)), domain)
end

-- Returns the value of the trace header; nil if the message does not have exactly one Message-ID that can be signed.
local function trace(msg, sender, id, mac, day)
  local identifiers = msg:get_all_named_header_values 'Message-ID'
  local identifier = #identifiers == 1 and identifiers[1]:gsub('%s', '') or ''
  local signed = comparable(untagged(sender))
  if identifier == '' or #identifier > MESSAGE_ID_LIMIT or not signed then
    return nil
  end
  local codes = { mac('sender', identifier, signed) }
  local recipients = msg:recipient_list()
  local recipient = #recipients == 1 and comparable(tostring(recipients[1]))
  if recipient then
    table.insert(codes, mac('recipient', identifier, recipient))
  end
  local code = mac('header', day, identifier, table.unpack(codes))
  return string.format('%s%s%s.%s', id, day, code, table.concat(codes, '.'))
end

local function is_signed(domains, sender)
  if not domains then
    return true
  end
  local _, domain = split(sender:lower())
  for _, wanted in ipairs(domains) do
    wanted = wanted:lower()
    local suffix = wanted:match '^%*(%..+)$'
    if domain == wanted or (suffix and domain and #domain > #suffix and domain:sub(-#suffix) == suffix) then
      return true
    end
  end
  return false
end

local function contains(list, wanted)
  for _, value in ipairs(list) do
    if value:gsub('%s', '') == wanted then
      return true
    end
  end
  return false
end

local function add_fields(options, msg, value)
  if options.cfbl_address and #msg:get_all_named_header_values 'CFBL-Address' == 0 then
    if value then
      msg:prepend_header('CFBL-Feedback-ID', value)
    end
    msg:prepend_header('CFBL-Address', options.cfbl_address .. '; report=arf')
  end
  -- Another host can have signed the message before.
  if options.header ~= false and value and not contains(msg:get_all_named_header_values 'X-Sidecar-Trace', value) then
    msg:prepend_header('X-Sidecar-Trace', value)
  end
end

local function sign(options, load, msg)
  local sender = tostring(msg:sender())
  if not is_signed(options.domains, sender) then
    return
  end
  local id, mac = maker_of(load(options.secret))
  local day = string.format('%05d', os.time() // DAY)
  -- The envelope sender is the last change: an error before it leaves the message as it was.
  add_fields(options, msg, trace(msg, sender, id, mac, day))
  local new_sender = options.address and tagged(sender, id, mac, day) or sender
  if new_sender ~= sender then
    msg:set_sender(new_sender)
  end
end

-- Returns the function that signs a message. With errors in the options it signs none, and logs that for each message.
function mod:setup(options)
  local problems = mod.problems(options)
  for _, problem in ipairs(problems) do
    table.insert(mod.WRONG, problem)
  end
  if #problems > 0 then
    return function()
      kumo.log_error('sidecar: a message is relayed unsigned: ' .. table.concat(problems, ' '))
    end
  end

  local load = kumo.memoize(function(source)
    return kumo.secrets.load(source)
  end, { name = 'sidecar_secret', ttl = SECRET_TTL, capacity = CAPACITY, invalidate_with_epoch = true })

  return function(msg)
    local ok, err = pcall(sign, options, load, msg)
    if not ok then
      kumo.log_error('sidecar: a message is relayed unsigned: ' .. tostring(err):gsub('%c+', ' '):sub(1, 300))
    end
  end
end

kumo.on('validate_config', function()
  if #mod.WRONG > 0 then
    kumo.validation_failed()
    print 'Issues found with sidecar_sign:'
    for _, problem in ipairs(mod.WRONG) do
      print(string.format(' - %s', problem))
    end
  end
end)

return mod
