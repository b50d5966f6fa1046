# Fits one generalized model with glmer or glmmTMB and writes one JSON line; called by generalized.py as
#   Rscript generalized.R ENGINE DATA.csv FACTORS FORMULA FAMILY LINK WEIGHTS NAGQ CALLS     (WEIGHTS: a column, or "")
# Reading the data is not timed; the timed call is the whole of it, formula and standard errors included. CPU seconds.
args <- commandArgs(trailingOnly = TRUE)
engine <- args[1]
nagq <- as.integer(args[8])
suppressPackageStartupMessages(if (engine == "glmmTMB") library(glmmTMB) else library(lme4))
status <- function(name) {
  line <- grep(paste0("^", name, ":"), readLines("/proc/self/status"), value = TRUE)
  1024 * as.numeric(gsub("[^0-9]", "", line))
}
frame <- read.csv(args[2], stringsAsFactors = FALSE)
for (name in strsplit(args[3], ",")[[1]]) frame[[name]] <- factor(frame[[name]], levels = unique(frame[[name]]))
formula <- as.formula(args[4])
frame$trials <- if (args[7] == "") rep(1, nrow(frame)) else frame[[args[7]]]
family <- switch(args[5], binomial = binomial(args[6]), poisson = poisson(args[6]),
                 negativebinomial = if (engine == "glmmTMB") nbinom2(args[6]))
fitted <- function() {
  if (engine == "glmmTMB") return(glmmTMB(formula, frame, family = family, weights = trials))
  if (args[5] == "negativebinomial") return(glmer.nb(formula, frame))
  glmer(formula, frame, family = family, weights = trials, nAGQ = nagq)
}
constant <- function() {  # what glmer leaves out of a likelihood by quadrature: that of the saturated model
  if (nagq == 1) return(0)
  trials <- frame$trials
  -2 * sum(dbinom(round(fit@resp$y * trials), trials, fit@resp$y, log = TRUE))
}
invisible(gc())
try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
before <- status("VmRSS")
seconds <- c()
while (length(seconds) < as.integer(args[9]) && sum(seconds) < 20) {
  time <- system.time(fit <- suppressMessages(suppressWarnings(fitted())))
  seconds <- c(seconds, time[["user.self"]] + time[["sys.self"]])
  if (length(seconds) == 1) peak <- status("VmHWM") - before
}
evals <- if (engine == "glmmTMB") fit$fit$evaluations[["function"]] else fit@optinfo$feval
package <- if (engine == "glmmTMB") "glmmTMB" else "lme4"
cat(sprintf('{"objective": %.10f, "seconds": %.6f, "evals": %d, "calls": %d, "peak": %.0f, "version": "%s %s, R %s.%s"}\n',
  -2 * as.numeric(logLik(fit)) + constant(), median(if (length(seconds) > 1) seconds[-1] else seconds), as.integer(evals),
  length(seconds), peak, package, packageVersion(package), R.version$major, R.version$minor))
