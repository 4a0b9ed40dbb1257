--[[
Reject unverified reports on a KumoMTA node, by the section [verify] of the sidecar.

  local verify = require('sidecar_verify'):setup {
    endpoint = 'http://127.0.0.1:8894', -- the [admin] socket of the sidecar; all values here are the defaults
    ttl = '5s', -- how long it is cached that a domain requires no tokens
    timeout = '5s', -- the longest time for one question
    on_failure = 'tempfail', -- or 'accept': what to do when the sidecar does not answer
    -- token = '/opt/kumomta/etc/sidecar-token', -- the reader's token, if the sidecar has tokens: a file, or another KeySource
  }
  kumo.on('smtp_server_rcpt_to', verify.recipient)
  kumo.on('smtp_server_data', verify.report)

Owns when the sidecar is asked, and what happens without an answer. The sidecar decides. The node logs the reports that pass: its
log does not say what they prove.

For KumoMTA 2025.12.02-67ee9e96 and later, the first version with smtp_server_data.
]]
local kumo = require 'kumo'

local mod = { WRONG = {} }

local DEFAULTS = { endpoint = 'http://127.0.0.1:8894', ttl = '5s', timeout = '5s', on_failure = 'tempfail' }

-- External hosts can name any number of domains.
local CAPACITY = 10000
-- RFC 3463: X.4.3, a directory server failure; X.3.4, too large for the system.
local TRY_AGAIN = '4.4.3 this report cannot be verified at present, try again later'
local TOO_LARGE = '5.3.4 this report is too large to be verified'
local LOG_LIMIT = 300

-- Returns a list of all errors in the options, one sentence each.
function mod.problems(options)
  if type(options) ~= 'table' then
    return { 'setup takes a table of options: write {} for the defaults.' }
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
      tostring(name) .. ' is no option: use endpoint, ttl, timeout, on_failure and token.'
    )
  end
  table.sort(problems)
  local function value_of(name)
    return options[name] == nil and DEFAULTS[name] or options[name]
  end
  for _, name in ipairs { 'ttl', 'timeout' } do
    local value = value_of(name)
    check(type(value) == 'string' and value:match '^%d+%s*%a+$', name .. " is no duration: write one such as '5s'.")
  end
  local endpoint, on_failure = value_of 'endpoint', value_of 'on_failure'
  check(
    type(endpoint) == 'string' and endpoint:match '^https?://[%w%.%-%[%]:]+/?$',
    'endpoint is no address of a server: write http://, host and port, as in http://127.0.0.1:8894.'
  )
  local token = options.token
  check(
    token == nil or type(token) == 'string' or type(token) == 'table',
    "token is no file: name the file of the reader's token, or leave it out."
  )
  check(
    on_failure == 'tempfail' or on_failure == 'accept',
    "on_failure is neither: write 'tempfail', or 'accept' to accept reports without a check."
  )
  return problems
end

-- Returns the decoded answer, nil if the question is too large. Raises an error for any other answer.
local function answer_of(response)
  local status = response:status_code()
  if status == 413 then
    return nil
  end
  if status ~= 200 then
    error(string.format('it answered with status %s', status), 0)
  end
  if not response:headers()['sidecar-revision'] then
    error('another program than the sidecar answers at the endpoint', 0)
  end
  local answer = kumo.serde.json_parse(response:text())
  return type(answer) == 'table' and answer or error('the answer is no object', 0)
end

-- Returns code and text of a reply such as `550 5.7.1 relaying not permitted`; nothing without one.
local function split(reply)
  if reply == nil then
    return nil
  end
  local code, text = tostring(reply):match '^([45]%d%d) (.+)$'
  if not code then
    error('the answer has no SMTP reply', 0)
  end
  return tonumber(code), text
end

-- KumoMTA recognizes reports by this type. A peer can write it in many ways, and the sidecar reads it again.
local function may_be_report(message)
  for _, value in ipairs(message:get_all_named_header_values 'Content-Type') do
    if value:lower():find('report', 1, true) then
      return true
    end
  end
  return false
end

local function question_of(message, conn_meta)
  local recipients = {}
  for index, recipient in ipairs(message:recipient_list()) do
    recipients[index] = tostring(recipient)
  end
  return kumo.serde.json_encode {
    peer = tostring(conn_meta:get_meta 'received_from'),
    listener = conn_meta:get_meta 'received_via',
    auth = conn_meta:get_meta 'authz_id',
    from = tostring(message:sender()),
    to = recipients,
    message_base64 = kumo.encode.base64_encode(message:get_data()),
  }
end

-- Returns the handlers for an endpoint. Each raises an error without an answer.
local function handlers(settings)
  local endpoint = settings.endpoint:gsub('/$', '')
  local client
  local function http()
    client = client
      or kumo.http.build_client {
        user_agent = 'sidecar_verify.lua',
        timeout = settings.timeout,
        -- Shorter than any server's idle timeout, so that no server closes the connection while we write.
        pool_idle_timeout = '2s',
      }
    return client
  end

  -- The file is read again after a minute.
  local load_token = kumo.memoize(function(source)
    return kumo.secrets.load(source):match '^%s*(.-)%s*$'
  end, { name = 'sidecar_verify_token', ttl = '60s', capacity = 1, invalidate_with_epoch = true })

  local function send(request)
    if settings.token then
      request:bearer_auth(load_token(settings.token))
    end
    return answer_of(request:send())
  end

  local function ask(address)
    local answer = send(http():get(kumo.http.build_url(endpoint .. '/v1/recipient', { address = address })))
    if answer.address ~= 'required' and answer.address ~= 'optional' then
      error('the answer does not say if a token is required', 0)
    end
    return answer
  end

  -- The token is in the local part. kumo.memoize would keep an error for a minute.
  local is_optional = kumo.memoize(function(domain)
    local ok, answer = pcall(ask, 'x@' .. domain)
    return ok and answer.address == 'optional'
  end, { name = 'sidecar_verify_domain', ttl = settings.ttl, capacity = CAPACITY, invalidate_with_epoch = true })

  local function recipient(address)
    local text = tostring(address)
    return not is_optional(text:match('[^@]*$'):lower()) and ask(text).reply or nil
  end

  local function report(message, conn_meta)
    if not may_be_report(message) then
      return nil
    end
    local request = http():post(endpoint .. '/v1/explain')
    request:header('Content-Type', 'application/json')
    request:body(question_of(message, conn_meta))
    local answer = send(request)
    if not answer then
      return '552 ' .. TOO_LARGE
    end
    if type(answer.recipients) ~= 'table' then
      error('the answer explains nothing', 0)
    end
    -- Without a message no recipient is accepted: the node itself rejects them.
    return answer.message and answer.message.action == 'reject' and answer.message.reply or nil
  end

  return { recipient = recipient, report = report }
end

-- Returns the text of an error without its traceback. It can contain text from another program.
local function one_line(err)
  local text = tostring(err):gsub('%s*stack traceback:.*', ''):gsub('^callback error%s+', '')
  return (text:gsub('%c+', ' '):sub(1, LOG_LIMIT))
end

local function guarded(handler, on_failure)
  return function(...)
    local ok, code, text = pcall(function(...)
      return split(handler(...))
    end, ...)
    if not ok then
      kumo.log_warn(string.format('sidecar: a report is not verified (%s): %s', on_failure, one_line(code)))
      code, text = on_failure == 'tempfail' and 451 or nil, TRY_AGAIN
    end
    if code then
      kumo.reject(code, text)
    end
  end
end

-- Returns the handlers `recipient` and `report`. With errors in the options they tempfail all mail.
function mod:setup(options)
  local problems = mod.problems(options)
  if #problems > 0 then
    for _, problem in ipairs(problems) do
      table.insert(mod.WRONG, problem)
    end
    local function wrong()
      kumo.log_error('sidecar: all mail is tempfailed: ' .. table.concat(problems, ' '))
      kumo.reject(451, TRY_AGAIN)
    end
    return { recipient = wrong, report = wrong }
  end
  local settings = { token = options.token }
  for name, value in pairs(DEFAULTS) do
    settings[name] = options[name] == nil and value or options[name]
  end
  local found = handlers(settings)
  return {
    recipient = guarded(found.recipient, settings.on_failure),
    report = guarded(found.report, settings.on_failure),
  }
end

kumo.on('validate_config', function()
  if #mod.WRONG > 0 then
    kumo.validation_failed()
    print 'Issues found with sidecar_verify:'
    for _, problem in ipairs(mod.WRONG) do
      print(string.format(' - %s', problem))
    end
  end
end)

return mod
