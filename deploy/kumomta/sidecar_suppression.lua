--[[
Reject recipients on the suppression list of the sidecar, on a KumoMTA node.

  local suppression = require('sidecar_suppression'):setup {
    token = '/opt/kumomta/etc/sidecar-token', -- the reader's token: a file, or another KeySource
    endpoint = 'http://127.0.0.1:8894', -- the [admin] socket of the sidecar; from here on, the values are the defaults
    check = 'reject', -- or 'log': accept, and log which recipients are on the list
    ttl = '2s', -- how long an answer is cached; '0s' turns the cache off
    timeout = '1s', -- the longest time for one question
    on_failure = 'accept', -- or 'tempfail': what to do when the sidecar does not answer
  }
  kumo.on('smtp_server_rcpt_to', suppression.recipient) -- SMTP: only for the listener of your own applications
  kumo.on('http_message_generated', suppression.message) -- injection over HTTP

Owns the question, the cache of answers, and what happens without an answer. The sidecar decides what is on the list.

For KumoMTA 2025.05.06-b29689af and later.
]]
local kumo = require 'kumo'

local mod = { WRONG = {} }

local DEFAULTS = {
  endpoint = 'http://127.0.0.1:8894',
  check = 'reject',
  ttl = '2s',
  timeout = '1s',
  on_failure = 'accept',
}
local CHOICES = { check = { reject = true, log = true }, on_failure = { accept = true, tempfail = true } }

-- An answer has some 50 bytes.
local CAPACITY = 100000
-- Seconds until a new token in the file is used.
local TOKEN_TTL = '60s'
-- RFC 3463: X.4.3, a directory server failure.
local TRY_AGAIN = '4.4.3 the suppression list cannot be asked at present, try again later'
-- The first character of a cached failure. No cached answer begins with it.
local FAILED = '!'
local LOG_LIMIT = 300
-- Of a reply. An SMTP line has 512 characters at most (RFC 5321 section 4.5.3.1.5).
local TEXT_LIMIT = 200

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
    check(
      DEFAULTS[name] or name == 'token',
      tostring(name) .. ' is no option: use token, endpoint, check, ttl, timeout and on_failure.'
    )
  end
  table.sort(problems)
  local function value_of(name)
    return options[name] == nil and DEFAULTS[name] or options[name]
  end
  local token, endpoint = options.token, value_of 'endpoint'
  check(
    type(token) == 'string' or type(token) == 'table',
    "token is missing: name the file of the reader's token of the sidecar."
  )
  check(
    type(endpoint) == 'string' and endpoint:match '^https?://[%w%.%-%[%]:]+/?$',
    'endpoint is no address of a server: write http://, host and port, as in http://127.0.0.1:8894.'
  )
  for _, name in ipairs { 'ttl', 'timeout' } do
    local value = value_of(name)
    check(type(value) == 'string' and value:match '^%d+%s*%a+$', name .. " is no duration: write one such as '2s'.")
  end
  check(CHOICES.check[value_of 'check'], "check is neither: write 'reject' or 'log'.")
  check(
    CHOICES.on_failure[value_of 'on_failure'],
    "on_failure is neither: write 'accept' to accept mail without a check, or 'tempfail'."
  )
  return problems
end

-- Returns a text of another program for a reply or the log.
local function plain(text, limit)
  return (tostring(text):gsub('[^ -~]+', '?'):sub(1, limit))
end

-- Returns the text of an error without its traceback.
local function one_line(err)
  return plain(tostring(err):gsub('%s*stack traceback:.*', ''):gsub('^callback error%s+', ''), LOG_LIMIT)
end

-- Returns why an address is on the list, '' if it is not. Raises an error for any other answer.
local function read(response)
  local status = response:status_code()
  if status ~= 200 then
    error(string.format('it answered with status %s', status), 0)
  end
  if not response:headers()['sidecar-revision'] then
    error('another program than the sidecar answers at the endpoint', 0)
  end
  local answer = kumo.serde.json_parse(response:text())
  local found = type(answer) == 'table' and answer.suppressed
  if type(found) ~= 'table' then
    error('the answer has no list', 0)
  end
  local entry = found[1]
  if entry == nil then
    return ''
  end
  if type(entry) ~= 'table' or type(entry.reason) ~= 'string' or type(entry.since) ~= 'string' then
    error('the answer has no reason, or a wrong one', 0)
  end
  return plain(entry.reason .. ' since ' .. entry.since, TEXT_LIMIT)
end

-- Returns the function that asks for an address. That returns as `read`.
local function asker(settings)
  local url = settings.endpoint:gsub('/$', '') .. '/v1/suppression/check'
  local client
  local load = kumo.memoize(function(source)
    return kumo.secrets.load(source):match '^%s*(.-)%s*$'
  end, { name = 'sidecar_token', ttl = TOKEN_TTL, capacity = 1, invalidate_with_epoch = true })

  return function(address)
    client = client
      or kumo.http.build_client {
        user_agent = 'sidecar_suppression.lua',
        timeout = settings.timeout,
        -- Shorter than any server's idle timeout, so that no server closes the connection while we write.
        pool_idle_timeout = '2s',
      }
    local request = client:post(url)
    request:header('Content-Type', 'application/json')
    request:bearer_auth(load(settings.token))
    request:body(kumo.serde.json_encode { addresses = { address } })
    return read(request:send())
  end
end

-- Returns the function that asks, or reads the cache.
local function rememberer(settings, ask)
  if settings.ttl:match '^0+%s*%a+$' then
    return ask
  end
  local remembered = kumo.memoize(function(address)
    -- kumo.memoize keeps an error for a minute: no error leaves this function.
    local ok, found = pcall(ask, address)
    return ok and found or FAILED .. tostring(found)
  end, { name = 'sidecar_suppression', ttl = settings.ttl, capacity = CAPACITY, invalidate_with_epoch = true })

  return function(address)
    local found = remembered(address)
    -- A cached failure ends with `ttl`: one question in that time is enough while the sidecar does not answer.
    if found:sub(1, 1) == FAILED then
      error(found:sub(2), 0)
    end
    return found
  end
end

-- Returns the function that checks one address, as a text, and rejects it.
local function checker(settings)
  local find = rememberer(settings, asker(settings))
  return function(address)
    local ok, found = pcall(find, address)
    if not ok then
      kumo.log_warn(
        string.format('sidecar: a recipient is not checked (%s): %s', settings.on_failure, one_line(found))
      )
      if settings.on_failure == 'tempfail' then
        kumo.reject(451, TRY_AGAIN)
      end
    elseif found ~= '' then
      local text = string.format('%s is on the suppression list: %s', plain(address, TEXT_LIMIT), found)
      if settings.check == 'reject' then
        kumo.reject(550, '5.7.1 ' .. text)
      end
      kumo.log_info('sidecar: accepted, but ' .. text)
    end
  end
end

-- Returns the handlers `recipient` and `message`. With errors in the options they do what on_failure says.
function mod:setup(options)
  local problems = mod.problems(options)
  for _, problem in ipairs(problems) do
    table.insert(mod.WRONG, problem)
  end
  local check
  if #problems > 0 then
    local is_tempfailing = type(options) == 'table' and options.on_failure == 'tempfail'
    check = function()
      kumo.log_error('sidecar: no recipient is checked: ' .. table.concat(problems, ' '))
      if is_tempfailing then
        kumo.reject(451, TRY_AGAIN)
      end
    end
  else
    local settings = { token = options.token }
    for name, value in pairs(DEFAULTS) do
      settings[name] = options[name] == nil and value or options[name]
    end
    check = checker(settings)
  end
  return {
    recipient = function(address)
      check(tostring(address))
    end,
    message = function(msg)
      -- Mail of the null sender is a report, and no one would learn that it was rejected.
      if tostring(msg:sender()) ~= '' then
        for _, address in ipairs(msg:recipient_list()) do
          check(tostring(address))
        end
      end
    end,
  }
end

kumo.on('validate_config', function()
  if #mod.WRONG > 0 then
    kumo.validation_failed()
    print 'Issues found with sidecar_suppression:'
    for _, problem in ipairs(mod.WRONG) do
      print(string.format(' - %s', problem))
    end
  end
end)

return mod
