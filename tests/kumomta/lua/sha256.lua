--[[
HMAC-SHA256 (FIPS 180-4, RFC 2104) in plain Lua 5.4, for the stand-in of kumo.digest.

Its constants are computed, not listed: the first 32 bits of the fractional parts of roots of primes.
]]
local MASK = 0xffffffff

-- Returns the first 32 bits of the fractional part of the root of a number, by whole numbers only.
local function root_bits(number, degree)
  local root = 0
  for bit = 34, 0, -1 do
    local tried = root | (1 << bit)
    -- 2^32 times the root: compare its power with the number shifted by as much, in two halves, without overflow.
    local whole, part = tried >> 32, (tried & MASK) / 4294967296.0
    if (whole + part) ^ degree <= number then
      root = tried
    end
  end
  return root & MASK
end

local function primes(count)
  local found, number = {}, 2
  while #found < count do
    local is_prime = true
    for _, prime in ipairs(found) do
      is_prime = is_prime and number % prime ~= 0
    end
    if is_prime then
      table.insert(found, number)
    end
    number = number + 1
  end
  return found
end

local ROUNDS, START = {}, {}
for index, prime in ipairs(primes(64)) do
  ROUNDS[index] = root_bits(prime, 3)
  START[index] = index <= 8 and root_bits(prime, 2) or nil
end

local function turn(word, bits)
  return (word >> bits | word << (32 - bits)) & MASK
end

local function add_block(state, block)
  local words = { string.unpack('>I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4', block) }
  for index = 17, 64 do
    local old, new = words[index - 15], words[index - 2]
    local small = turn(old, 7) ~ turn(old, 18) ~ old >> 3
    local large = turn(new, 17) ~ turn(new, 19) ~ new >> 10
    words[index] = (words[index - 16] + small + words[index - 7] + large) & MASK
  end
  local a, b, c, d, e, f, g, h = table.unpack(state)
  for index = 1, 64 do
    local choice, majority = (e & f) ~ (~e & g), (a & b) ~ (a & c) ~ (b & c)
    local first = h + (turn(e, 6) ~ turn(e, 11) ~ turn(e, 25)) + choice + ROUNDS[index] + words[index]
    local second = (turn(a, 2) ~ turn(a, 13) ~ turn(a, 22)) + majority
    a, b, c, d, e, f, g, h = (first + second) & MASK, a, b, c, (d + first) & MASK, e, f, g
  end
  for index, word in ipairs { a, b, c, d, e, f, g, h } do
    state[index] = (state[index] + word) & MASK
  end
end

local function sha256(text)
  local padding = ('\0'):rep((55 - #text) % 64)
  local padded = text .. '\x80' .. padding .. string.pack('>I8', #text * 8)
  local state = { table.unpack(START) }
  for offset = 1, #padded, 64 do
    add_block(state, padded:sub(offset, offset + 63))
  end
  return string.pack('>I4I4I4I4I4I4I4I4', table.unpack(state))
end

local function xored(key, value)
  return (key:gsub('.', function(byte)
    return string.char(byte:byte() ~ value)
  end))
end

return {
  sha256 = sha256,
  hmac = function(key, text)
    key = #key > 64 and sha256(key) or key
    key = key .. ('\0'):rep(64 - #key)
    return sha256(xored(key, 0x5c) .. sha256(xored(key, 0x36) .. text))
  end,
}
