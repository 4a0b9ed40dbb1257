--[[
What the scripts for KumoMTA use of it, by its reference pages, under a plain Lua 5.4; HTTP is real.

Owns the likeness, and what a test may look at: `handlers`, `logged`, `failed`, `now`, `too_old`. Never knows the sidecar.
]]
local cjson = require 'cjson'
local mime = require 'mime'
local http = require 'socket.http'
local ltn12 = require 'ltn12'
local socket = require 'socket'
local url = require 'socket.url'
local sha256 = require 'sha256'

local kumo = {
  encode = {},
  http = {},
  serde = {},
  digest = {},
  secrets = {},
  handlers = {},
  logged = {},
  failed = false,
  now = 0,
  too_old = false,
}

local UNITS = { ms = 0.001, s = 1, minutes = 60, hour = 3600 }

local function duration(text)
  local number, unit = text:match '^(%d+)%s*(%a+)$'
  return tonumber(number) * UNITS[unit]
end

function kumo.on(event, handler)
  kumo.handlers[event] = handler
end

function kumo.reject(code, text)
  error { code = code, text = text }
end

function kumo.log_warn(...)
  table.insert(kumo.logged, table.concat({ ... }, ' '))
end

kumo.log_error = kumo.log_warn
kumo.log_info = kumo.log_warn

-- Errors of KumoMTA's own functions have a traceback in their text.
local function fail(text)
  error(debug.traceback('callback error\n' .. text), 0)
end

function kumo.validation_failed()
  kumo.failed = true
end

-- JSON's null is nil in KumoMTA, and its objects and lists are tables.
local function without_null(value)
  if value == cjson.null then
    return nil
  end
  if type(value) == 'table' then
    local plain = {}
    for key, inner in pairs(value) do
      plain[key] = without_null(inner)
    end
    return plain
  end
  return value
end

function kumo.serde.json_parse(text)
  return without_null(cjson.decode(text))
end

function kumo.serde.json_encode(value)
  return cjson.encode(value)
end

function kumo.encode.base64_encode(bytes)
  return (mime.b64(bytes))
end

local MODES = { Ignore = true, LogThenRelay = true, LogThenDrop = true }
local LISTENER_DOMAIN = {
  relay_to = function(value)
    return type(value) == 'boolean'
  end,
  relay_from = function(value)
    return type(value) == 'table'
  end,
}

local function is_report_mode(value)
  return type(value) == 'boolean' or (not kumo.too_old and MODES[value])
end

function kumo.make_listener_domain(params)
  for key, value in pairs(params) do
    local is_right = LISTENER_DOMAIN[key] or (key:match '^log_' and is_report_mode)
    if not is_right or not is_right(value) then
      fail('deserialize error: ' .. key)
    end
  end
  return params
end

-- As in KumoMTA an error is remembered as well, for a minute, and reaches the caller as text.
function kumo.memoize(compute, params)
  local entries, count = {}, 0
  return function(...)
    local key = cjson.encode { ... }
    local entry = entries[key]
    if not entry or kumo.now >= entry.ends then
      if count >= params.capacity then
        entries, count = {}, 0
      end
      local ok, value = pcall(compute, ...)
      entry = { ok = ok, value = value, ends = kumo.now + (ok and duration(params.ttl) or 60) }
      entries[key], count = entry, count + 1
    end
    if not entry.ok then
      error(tostring(entry.value), 0)
    end
    return entry.value
  end
end

-- A KeySource: a path, whose file is read as it is, or a table with the bytes.
function kumo.secrets.load(source)
  if type(source) == 'table' then
    return source.key_data
  end
  local file = io.open(source, 'rb') or fail('KeySource failed to load data from file `' .. source .. '`')
  local content = file:read 'a'
  file:close()
  return content
end

local ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

local function base32_nopad(bytes)
  local digits, buffer, bits = {}, 0, 0
  for index = 1, #bytes do
    buffer, bits = (buffer << 8 | bytes:byte(index)) & 0xfff, bits + 8
    while bits >= 5 do
      bits = bits - 5
      local digit = buffer >> bits & 31
      table.insert(digits, ALPHABET:sub(digit + 1, digit + 1))
    end
  end
  local last = bits > 0 and (buffer << (5 - bits) & 31) + 1
  return table.concat(digits) .. (last and ALPHABET:sub(last, last) or '')
end

-- Returns what is used of a BinaryResult.
function kumo.digest.hmac_sha256(key, text)
  local bytes = sha256.hmac(kumo.secrets.load(key), text)
  return { bytes = bytes, base32_nopad = base32_nopad(bytes) }
end

local ADDRESS = {
  __tostring = function(address)
    return address.email
  end,
}

local function address_of(email)
  if email ~= '' and not email:match '^.+@[^@]+$' then
    fail('invalid EnvelopeAddress: ' .. email)
  end
  return setmetatable({ email = email }, ADDRESS)
end

-- Returns a message object. `values` has its sender, recipients, data, and header: a list of pairs, changed in place.
function kumo.message(values)
  local message = {}
  function message:sender()
    return address_of(values.sender)
  end
  function message:set_sender(email)
    values.sender = address_of(email).email
  end
  function message:recipient_list()
    local list = {}
    for index, email in ipairs(values.recipients) do
      list[index] = address_of(email)
    end
    return list
  end
  function message:get_all_named_header_values(name)
    local found = {}
    for _, field in ipairs(values.header) do
      if field[1]:lower() == name:lower() then
        table.insert(found, (field[2]:gsub('\r?\n[ \t]+', ' ')))
      end
    end
    return found
  end
  function message:get_data()
    return values.data
  end
  function message:prepend_header(name, value)
    table.insert(values.header, 1, { name, value })
  end
  return message
end

function kumo.http.build_url(base, params)
  local pieces = {}
  for name, value in pairs(params) do
    table.insert(pieces, url.escape(name) .. '=' .. url.escape(value))
  end
  return base .. '?' .. table.concat(pieces, '&')
end

local function response_of(status, headers, body)
  local response = {}
  function response:status_code()
    return status
  end
  function response:headers()
    return setmetatable({}, {
      __index = function(_, name)
        return headers[name:lower()]
      end,
    })
  end
  function response:text()
    return body
  end
  return response
end

function kumo.http.build_client(params)
  local client = {}
  local function request_of(method, address)
    local request, content, fields = {}, nil, {}
    function request:header(name, value)
      fields[name] = value
    end
    function request:bearer_auth(token)
      fields['Authorization'] = 'Bearer ' .. token
    end
    function request:body(text)
      content, fields['Content-Length'] = text, #text
    end
    function request:send()
      local pieces = {}
      local ok, status, headers = http.request {
        url = address,
        method = method,
        headers = fields,
        source = content and ltn12.source.string(content),
        sink = ltn12.sink.table(pieces),
        -- One limit for the whole of the request, as KumoMTA's client has it.
        create = function()
          local connection = socket.tcp()
          connection:settimeout(duration(params.timeout), 't')
          return connection
        end,
      }
      if not ok then
        fail('error sending request: ' .. tostring(status))
      end
      return response_of(status, headers, table.concat(pieces))
    end
    return request
  end
  function client:get(address)
    return request_of('GET', address)
  end
  function client:post(address)
    return request_of('POST', address)
  end
  return client
end

return kumo
