module interop.test/clients

go 1.24.0

require (
	github.com/d--j/go-milter v0.10.1
	github.com/emersion/go-milter v0.5.0
)

require (
	github.com/emersion/go-message v0.18.2 // indirect
	golang.org/x/text v0.28.0 // indirect
)
