--[[
Ask the sidecar for the listener policy of a KumoMTA node.

  local sidecar = require 'sidecar'

  kumo.on('get_listener_domain', sidecar:setup {
    endpoint = 'http://127.0.0.1:8894', -- the [admin] socket of the sidecar; all values here are the defaults
    ttl = '5s', -- how long an answer is cached; '0s' turns the cache off
    timeout = '1s', -- the longest time for one question
    on_failure = 'tempfail', -- or 'file': what to do when the sidecar does not answer
    -- token = '/opt/kumomta/etc/sidecar-token', -- the reader's token, if the sidecar has tokens: a file, or another KeySource
    -- files = { '/opt/kumomta/etc/listener_domains.toml' }, -- for 'file': for KumoMTA's own helper
  })

Owns the question, the cache of answers, and what happens without an answer. The sidecar decides, or with
on_failure = 'file' KumoMTA's own helper. Without a complete and known answer of one of them, nothing is accepted.

For KumoMTA 2025.05.06-b29689af and later, the first version with "LogThenDrop" in make_listener_domain.
]]
local kumo = require 'kumo'

local mod = { WRONG = {} }

local DEFAULTS = {
  endpoint = 'http://127.0.0.1:8894',
  ttl = '5s',
  timeout = '1s',
  on_failure = 'tempfail',
}

local KNOWN = {
  endpoint = true,
  ttl = true,
  timeout = true,
  on_failure = true,
  files = true,
  token = true,
}

local SECONDS = {
  ms = 0.001,
  s = 1,
  second = 1,
  seconds = 1,
  m = 60,
  minute = 60,
  minutes = 60,
  h = 3600,
  hour = 3600,
  hours = 3600,
}

-- An answer has some 300 bytes. External hosts can name any number of domains; an answer that they evict is asked for again.
local CAPACITY = 10000

-- RFC 3463: X.4.3, a directory server failure.
local TRY_AGAIN = '4.4.3 the listener policy cannot be asked at present, try again later'

-- The first character of a cached failure. No JSON begins with it.
local FAILED = '!'

local LOG_LIMIT = 300

-- Returns seconds, or nil if the text is no duration.
local function seconds_of(duration)
  if type(duration) ~= 'string' then
    return nil
  end
  local number, unit = duration:match '^(%d+)%s*(%a+)$'
  return number and SECONDS[unit] and tonumber(number) * SECONDS[unit]
end

local function is_list_of_files(value)
  if type(value) ~= 'table' or #value == 0 then
    return false
  end
  for _, file in ipairs(value) do
    -- KumoMTA's helper accepts tables instead of files too.
    if type(file) ~= 'string' and type(file) ~= 'table' then
      return false
    end
  end
  return true
end

local function with_defaults(options)
  local settings = { files = options.files, token = options.token }
  for name, value in pairs(DEFAULTS) do
    settings[name] = options[name] == nil and value or options[name]
  end
  return settings
end

local function add_unknown(problems, options)
  local unknown = {}
  for name in pairs(options) do
    if not KNOWN[name] then
      table.insert(unknown, tostring(name))
    end
  end
  table.sort(unknown)
  for _, name in ipairs(unknown) do
    table.insert(
      problems,
      string.format(
        '%s is no option: use endpoint, ttl, timeout, on_failure, files and token.',
        name
      )
    )
  end
end

local function add_about_endpoint(problems, endpoint)
  if type(endpoint) == 'string' and endpoint:match '^unix:' then
    table.insert(
      problems,
      "endpoint is a UNIX socket, which KumoMTA's HTTP client cannot reach: "
        .. 'let the [admin] socket of the sidecar listen on the loopback, and name that address.'
    )
  elseif
    type(endpoint) ~= 'string'
    or not endpoint:match '^https?://[%w%.%-%[%]:]+/?$'
  then
    table.insert(
      problems,
      'endpoint is no address of a server: write http://, host and port, as in http://127.0.0.1:8894.'
    )
  end
end

local function add_about_failure(problems, settings)
  if settings.on_failure == 'file' then
    if not is_list_of_files(settings.files) then
      table.insert(
        problems,
        "on_failure = 'file' needs files: list the listener domains files for KumoMTA's own helper."
      )
    end
  elseif settings.on_failure ~= 'tempfail' then
    table.insert(
      problems,
      "on_failure is neither: write 'tempfail', to put mail off, or 'file', to decide by files."
    )
  elseif settings.files ~= nil then
    table.insert(
      problems,
      "files are for on_failure = 'file': write that, or leave them out."
    )
  end
end

-- Returns a list of all errors in the options, one sentence each.
function mod.problems(options)
  if type(options) ~= 'table' then
    return {
      'setup takes a table of options: write sidecar:setup {} for the defaults.',
    }
  end
  local problems = {}
  local settings = with_defaults(options)
  add_unknown(problems, options)
  add_about_endpoint(problems, settings.endpoint)
  if not seconds_of(settings.ttl) then
    table.insert(
      problems,
      "ttl is no duration: write one such as '5s', or '0s' to ask each time."
    )
  end
  if (seconds_of(settings.timeout) or 0) <= 0 then
    table.insert(
      problems,
      "timeout is no duration, or none at all: write one such as '1s'."
    )
  end
  add_about_failure(problems, settings)
  if
    settings.token ~= nil
    and type(settings.token) ~= 'string'
    and type(settings.token) ~= 'table'
  then
    table.insert(
      problems,
      "token is no file: name the file of the reader's token, or leave it out."
    )
  end
  return problems
end

local function is_list_of_strings(value)
  if type(value) ~= 'table' then
    return false
  end
  local count = 0
  for _ in pairs(value) do
    count = count + 1
  end
  for index = 1, count do
    if type(value[index]) ~= 'string' then
      return false
    end
  end
  return true
end

local function is_boolean(value)
  return type(value) == 'boolean'
end

local function is_mode(value)
  return value == 'Ignore' or value == 'LogThenRelay' or value == 'LogThenDrop'
end

local SHAPE = {
  relay_to = is_boolean,
  relay_from = is_list_of_strings,
  relay_from_authz = is_list_of_strings,
  log_oob = is_mode,
  log_arf = is_mode,
}

-- Returns the decoded answer, or nil for a domain without an entry. Raises an error if a key is missing or unknown.
local function read(body)
  if body:match '^%s*null%s*$' then
    return nil
  end
  local answer = kumo.serde.json_parse(body)
  if type(answer) ~= 'table' then
    error('the answer is neither an object nor null', 0)
  end
  for name in pairs(answer) do
    if not SHAPE[name] then
      error(
        'the answer has a key that this sidecar.lua does not know: take the one that came with the sidecar',
        0
      )
    end
  end
  for name, is_right in pairs(SHAPE) do
    if not is_right(answer[name]) then
      error(string.format('the answer has no %s, or a wrong one', name), 0)
    end
  end
  return answer
end

-- Returns the function that asks. That returns the body of an answer that `read` accepts, and raises an error otherwise.
local function asker(settings)
  local url = settings.endpoint:gsub('/$', '') .. '/v1/listener-domain'
  local client
  -- The file is read again after a minute.
  local load_token = kumo.memoize(function(source)
    return kumo.secrets.load(source):match '^%s*(.-)%s*$'
  end, {
    name = 'sidecar_policy_token',
    ttl = '60s',
    capacity = 1,
    invalidate_with_epoch = true,
  })

  return function(domain, listener, authz_id)
    client = client
      or kumo.http.build_client {
        user_agent = 'sidecar.lua',
        timeout = settings.timeout,
        -- Shorter than any server's idle timeout, so that no server closes the connection while we write.
        pool_idle_timeout = '2s',
      }
    -- The question is the key of the cache, so it cannot contain the peer's address.
    local question = { domain = domain, listener = listener }
    if authz_id ~= '' then
      question.authz_id = authz_id
    end
    local request = client:get(kumo.http.build_url(url, question))
    if settings.token then
      request:bearer_auth(load_token(settings.token))
    end
    local response = request:send()
    local status = response:status_code()
    if status ~= 200 then
      error(string.format('it answered with status %s', status), 0)
    end
    if not response:headers()['sidecar-revision'] then
      error('another program than the sidecar answers at the endpoint', 0)
    end
    local body = response:text()
    read(body)
    return body
  end
end

-- Returns the function that asks, or reads the cache. That returns the body of an answer, and raises an error without one.
local function rememberer(settings, ask)
  if seconds_of(settings.ttl) == 0 then
    return ask
  end

  local just_asked = false
  local remembered = kumo.memoize(function(domain, listener, authz_id)
    just_asked = true
    -- kumo.memoize caches an error for a minute and changes it: no error leaves this function.
    local ok, body = pcall(ask, domain, listener, authz_id)
    return ok and body or FAILED .. tostring(body)
  end, {
    name = 'sidecar_listener_domain',
    ttl = settings.ttl,
    capacity = CAPACITY,
    invalidate_with_epoch = true,
  })

  return function(domain, listener, authz_id)
    just_asked = false
    local body = remembered(domain, listener, authz_id)
    if body:sub(1, 1) ~= FAILED then
      return body
    end
    -- Ask again after a cached failure: the sidecar can be running again.
    if just_asked then
      error(body:sub(2), 0)
    end
    return ask(domain, listener, authz_id)
  end
end

local function contains(list, wanted)
  for _, value in ipairs(list) do
    if value == wanted then
      return true
    end
  end
  return false
end

local function peer_of(conn_meta)
  local endpoint = tostring(conn_meta:get_meta 'received_from')
  local peer = endpoint:match '^%[([%x:.]+)%]:%d+$'
    or endpoint:match '^([%d.]+):%d+$'
  return peer or error('received_from has no peer address', 0)
end

-- Returns the listener domain for an answer. KumoMTA has no relay_from_authz: it is applied here, to the peer of this
-- connection, and is never cached.
local function listener_domain_of(answer, authz_id, conn_meta)
  local relay_from = {}
  for _, network in ipairs(answer.relay_from) do
    table.insert(relay_from, network)
  end
  if authz_id ~= '' and contains(answer.relay_from_authz, authz_id) then
    table.insert(relay_from, peer_of(conn_meta))
  end
  return kumo.make_listener_domain {
    relay_to = answer.relay_to,
    relay_from = relay_from,
    log_oob = answer.log_oob,
    log_arf = answer.log_arf,
  }
end

local function authz_id_of(conn_meta)
  local authz_id = conn_meta:get_meta 'authz_id'
  return type(authz_id) == 'string' and authz_id or ''
end

-- Returns the text of an error without its traceback. It can contain text from another program.
local function one_line(err)
  local text = tostring(err)
    :gsub('%s*stack traceback:.*', '')
    :gsub('^callback error%s+', '')
  return (text:gsub('%c+', ' '):sub(1, LOG_LIMIT))
end

local function fallback_of(settings)
  if settings.on_failure == 'file' then
    return require('policy-extras.listener_domains'):setup(settings.files)
  end
  return function()
    kumo.reject(451, TRY_AGAIN)
  end
end

-- Returns a handler that tempfails all mail. An error here would print a traceback around the sentences: they are for
-- kumod --validate and for the log.
local function tempfailer(problems)
  for _, problem in ipairs(problems) do
    table.insert(mod.WRONG, problem)
  end
  return function()
    for _, problem in ipairs(problems) do
      kumo.log_error('sidecar: all mail is tempfailed: ' .. problem)
    end
    kumo.reject(451, TRY_AGAIN)
  end
end

-- Returns the handler for get_listener_domain. With errors in the options it tempfails all mail.
function mod:setup(options)
  local problems = mod.CONFIGURED
      and { 'setup was called before: call it once.' }
    or mod.problems(options)
  if #problems > 0 then
    return tempfailer(problems)
  end

  local settings = with_defaults(options)
  local ask = asker(settings)
  local body_for = rememberer(settings, ask)
  local fall_back = fallback_of(settings)
  mod.CONFIGURED = { settings = settings, ask = ask }

  return function(domain, listener, conn_meta)
    local ok, result = pcall(function()
      local authz_id = authz_id_of(conn_meta)
      local answer = read(body_for(domain, listener, authz_id))
      return answer and listener_domain_of(answer, authz_id, conn_meta)
    end)
    if ok then
      return result
    end
    kumo.log_warn(
      string.format(
        'sidecar: no answer from %s (%s): %s',
        settings.endpoint,
        settings.on_failure,
        one_line(result)
      )
    )
    return fall_back(domain, listener, conn_meta)
  end
end

-- Returns a list of all errors in the setup, one sentence each. Asks the sidecar once.
function mod.validate()
  local problems = { table.unpack(mod.WRONG) }
  if not mod.CONFIGURED then
    return problems
  end
  local ok, err = pcall(kumo.make_listener_domain, {
    relay_to = false,
    relay_from = { '192.0.2.0/24' },
    log_oob = 'LogThenDrop',
    log_arf = 'LogThenRelay',
  })
  if not ok then
    table.insert(
      problems,
      'This KumoMTA does not know all that the sidecar may answer: use a later one. '
        .. one_line(err)
    )
  end
  local settings = mod.CONFIGURED.settings
  ok, err = pcall(mod.CONFIGURED.ask, 'example.com', '127.0.0.1:25', '')
  if not ok then
    table.insert(
      problems,
      string.format(
        'The sidecar does not answer at %s: start it, with [admin] in its settings, or correct endpoint. %s',
        settings.endpoint,
        one_line(err)
      )
    )
  end
  return problems
end

kumo.on('validate_config', function()
  local problems = mod.validate()
  if #problems == 0 then
    return
  end
  kumo.validation_failed()
  print 'Issues found with the sidecar:'
  for _, problem in ipairs(problems) do
    print(string.format(' - %s', problem))
  end
end)

return mod
