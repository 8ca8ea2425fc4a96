package admin

import (
	_ "embed"
	"html/template"
	"net/http"
	"runtime"
	"strings"
)

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page is for a person with a browser: how it is, and where to look further.
func (a *Admin) page(w http.ResponseWriter, _ *http.Request) {
	data := struct {
		Name, Version, Pending string
		Dump, Level, Quit      bool
		Goroutines             int
		Facts                  []Fact
	}{
		Name: a.config.Name, Version: a.config.Version, Pending: strings.Join(a.config.Ready(), ", "),
		Dump: a.config.Dump != nil, Level: a.config.Level != nil, Quit: a.config.Quit != nil, Goroutines: runtime.NumGoroutine(),
	}
	if a.config.Facts != nil {
		data.Facts = a.config.Facts()
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'")
	if err := pageTemplate.Execute(w, data); err != nil {
		a.config.Logger.Debug("write status page", "error", err)
	}
}
