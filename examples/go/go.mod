module pericarp

go 1.19
